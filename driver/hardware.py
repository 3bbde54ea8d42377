"""The virtual machine that is migrated, as a value."""

from __future__ import annotations

import re
from dataclasses import dataclass

from workload.errors import BadValueError
from workload.value import check_settings, setting

LIST = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """vCPUs, memory and machine of both QEMUs; equal values mean the same machine."""

    vcpus: int = setting(1, unit="", help="virtual CPUs; one worker thread each", group="hardware", low=1, high=255)
    memory_mib: int = setting(256, unit="MiB", help="guest RAM", group="hardware", low=64, high=1 << 24)
    accelerator: str = setting(
        "auto", unit="", help="auto takes KVM only where a real guest proves that it boots", group="hardware",
        choices=("auto", "kvm", "tcg"),
    )  # fmt: skip
    machine: str = setting(
        "pc", unit="", help="QEMU's machine type", group="hardware", choices=("pc", "q35", "microvm")
    )
    dirty_ring_size: int = setting(
        0, unit="entries", help="KVM's dirty ring a vCPU, a power of two; 0 = dirty bitmap", group="hardware",
        low=1024, high=65536, zero=True,
    )  # fmt: skip
    prealloc: bool = setting(False, unit="", help="take all of the guest's RAM at the start", group="hardware")
    locked_pages: bool = setting(False, unit="", help="lock QEMU's memory into the host's RAM", group="hardware")
    huge_pages_mib: int = setting(
        0, unit="MiB", help="back the guest's RAM with the host's huge pages of 2 or 1024 MiB; 0 = ordinary pages",
        group="hardware", low=2, high=1024, zero=True,
    )  # fmt: skip
    disk_mib: int = setting(
        0, unit="MiB", help="size of a virtio disk that is mirrored to the destination over NBD; 0 = none",
        group="hardware", low=1, high=1 << 24, zero=True,
    )  # fmt: skip
    source_cpus: str = setting("", unit="LIST", help="host CPUs of the source, as 0-1,4; empty = all", group="hardware")
    destination_cpus: str = setting("", unit="LIST", help="host CPUs of the destination", group="hardware")
    source_nodes: str = setting(
        "", unit="LIST", help="host memory nodes of the source (numactl --membind); empty = all", group="hardware"
    )
    destination_nodes: str = setting("", unit="LIST", help="host memory nodes of the destination", group="hardware")

    def __post_init__(self) -> None:
        check_settings(self)
        size = self.dirty_ring_size
        if size & (size - 1):
            raise BadValueError(f"hardware.dirty_ring_size={size}: want a power of two between 1024 and 65536")
        if size and self.accelerator == "tcg":
            raise BadValueError(f"hardware.dirty_ring_size={size}: only KVM has a dirty ring, accelerator is tcg")
        if self.machine == "microvm" and self.vcpus > 1:
            raise BadValueError(f"hardware.vcpus={self.vcpus}: want 1 on a microvm (docs/qemu.md)")
        if self.machine == "microvm" and self.disk_mib:
            raise BadValueError(f"hardware.disk_mib={self.disk_mib}: want 0 on a microvm, which has no PCI; or pc, q35")
        if self.huge_pages_mib not in (0, 2, 1024):
            raise BadValueError(f"hardware.huge_pages_mib={self.huge_pages_mib}: want 0 (off), 2 or 1024")
        for name in ("source_cpus", "destination_cpus", "source_nodes", "destination_nodes"):
            words = getattr(self, name)
            if words and not LIST.fullmatch(words):
                raise BadValueError(f"hardware.{name}={words!r}: want numbers and ranges, as 0-1,4")

    @property
    def memory_bytes(self) -> int:
        """Guest RAM in bytes."""
        return self.memory_mib << 20


def numbers(words: str) -> set[int]:
    """Read a list of numbers and ranges as the kernel writes them: 0-1,4."""
    found: set[int] = set()
    for part in words.split(","):
        low, _, high = part.partition("-")
        found |= set(range(int(low), int(high or low) + 1))
    return found
