"""What a guest is bound to on its host: CPUs and memory nodes, and pages that the host must have free."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from driver.hardware import Hardware, numbers
from workload.errors import UnsupportedError

NODES = Path("/sys/devices/system/node/online")
HUGE_PAGES = Path("/sys/kernel/mm/hugepages")


def binding(hardware: Hardware, role: str) -> tuple[str, ...]:
    """What is put before a QEMU's command line so that it runs where it is to: both programs execute the rest."""
    cpus, nodes = _bound(hardware, role)
    return (*(("taskset", "-c", cpus) if cpus else ()), *((("numactl", f"--membind={nodes}")) if nodes else ()))


def check_bindings(hardware: Hardware, memory_kib: int, roles: Sequence[str] = ("source", "destination")) -> None:
    """Check that this host has the CPUs, memory nodes, tools and huge pages for the QEMUs that run here.

    Raises:
        UnsupportedError: naming the setting and what there is.
    """
    for role in roles:
        cpus, nodes = _bound(hardware, role)
        if cpus and (missing := numbers(cpus) - os.sched_getaffinity(0)):
            here = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
            raise UnsupportedError(f"hardware.{role}_cpus={cpus}: CPU {min(missing)} cannot be had here, only {here}")
        if nodes and shutil.which("numactl") is None:
            raise UnsupportedError(f"hardware.{role}_nodes={nodes}: numactl is missing; apt-get install numactl")
        if nodes and (missing := numbers(nodes) - _nodes()):
            raise UnsupportedError(f"hardware.{role}_nodes={nodes}: this host has no memory node {min(missing)}")
    if size_mib := hardware.huge_pages_mib:
        if memory_kib % (size_mib << 10):
            raise UnsupportedError(
                f"hardware.huge_pages_mib={size_mib}: guest RAM of {memory_kib} KiB is not a multiple of it"
                + " (QEMU before 9.0 gets 8 KiB more under TCG: docs/qemu.md)"
                * (memory_kib != hardware.memory_mib << 10)
            )
        wanted = len(roles) * (memory_kib // (size_mib << 10))
        pool = HUGE_PAGES / f"hugepages-{size_mib << 10}kB"
        free = int((pool / "free_hugepages").read_text()) if pool.is_dir() else 0
        if free < wanted:
            raise UnsupportedError(
                f"hardware.huge_pages_mib={size_mib}: want {wanted} free pages, this host has {free};"
                f" as root: echo {wanted} > {pool}/nr_hugepages"
            )


def _bound(hardware: Hardware, role: str) -> tuple[str, str]:
    if role == "destination":
        return hardware.destination_cpus, hardware.destination_nodes
    return hardware.source_cpus, hardware.source_nodes


def _nodes() -> set[int]:
    return numbers(NODES.read_text().strip()) if NODES.exists() else set()
