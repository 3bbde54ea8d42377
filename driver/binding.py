"""What a guest is bound to on its host: CPUs and memory nodes, and pages that the host must have free."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from driver.hardware import Hardware, numbers
from driver.keeper_host import HUGE_PAGES, resources
from workload.errors import UnsupportedError

TOOLS = {"cpus": ("taskset", "util-linux"), "nodes": ("numactl", "numactl")}
"""What binds to each, and the package that has it."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a host has for QEMUs to be bound to; `free_huge_pages` by the size of a page in KiB."""

    host: str
    cpus: Collection[int]
    nodes: Collection[int]
    tools: Collection[str]
    free_huge_pages: Mapping[int, int]

    @classmethod
    def here(cls) -> Self:
        """Those of this host."""
        return cls.parse(resources(), "this host")

    @classmethod
    def parse(cls, facts: Mapping[str, Any], host: str) -> Self:
        """Read what `driver.keeper_host.resources` tells of a host."""
        return cls(
            host=host,
            cpus=facts["cpus"],
            nodes=numbers(facts["nodes"]) if facts["nodes"] else (),
            tools=facts["tools"],
            free_huge_pages={int(size): free for size, free in facts["free_huge_pages"].items()},
        )


def binding(hardware: Hardware, role: str) -> tuple[str, ...]:
    """What is put before a QEMU's command line so that it runs where it is to: both programs execute the rest."""
    cpus, nodes = _bound(hardware, role).values()
    return (*(("taskset", "-c", cpus) if cpus else ()), *((("numactl", f"--membind={nodes}")) if nodes else ()))


def check_bindings(hardware: Hardware, memory_kib: int, roles: Sequence[str], found: Resources) -> None:
    """Check that a host has the CPUs, memory nodes, tools and huge pages for the QEMUs that run there.

    Raises:
        UnsupportedError: naming the setting and what there is.
    """
    for role in roles:
        for what, words in _bound(hardware, role).items():
            if not words:
                continue
            there: Collection[int] = getattr(found, what)
            tool, package = TOOLS[what]
            subject, noun = f"hardware.{role}_{what}={words}", {"cpus": "CPU", "nodes": "memory node"}[what]
            if tool not in found.tools:
                raise UnsupportedError(f"{subject}: {tool} is missing on {found.host}; apt-get install {package}")
            if missing := numbers(words) - set(there):
                has = ", ".join(map(str, sorted(there))) or "none"
                raise UnsupportedError(f"{subject}: {noun} {min(missing)} cannot be had on {found.host}, only {has}")
    if size_mib := hardware.huge_pages_mib:
        if memory_kib % (size_mib << 10):
            raise UnsupportedError(
                f"hardware.huge_pages_mib={size_mib}: guest RAM of {memory_kib} KiB is not a multiple of it"
                + " (QEMU before 9.0 gets 8 KiB more under TCG: docs/qemu.md)"
                * (memory_kib != hardware.memory_mib << 10)
            )
        wanted, free = len(roles) * (memory_kib // (size_mib << 10)), found.free_huge_pages.get(size_mib << 10, 0)
        if free < wanted:
            raise UnsupportedError(
                f"hardware.huge_pages_mib={size_mib}: want {wanted} free pages, {found.host} has {free};"
                f" as root: echo {wanted} > {HUGE_PAGES}/hugepages-{size_mib << 10}kB/nr_hugepages"
            )


def _bound(hardware: Hardware, role: str) -> dict[str, str]:
    if role == "destination":
        return {"cpus": hardware.destination_cpus, "nodes": hardware.destination_nodes}
    return {"cpus": hardware.source_cpus, "nodes": hardware.source_nodes}
