"""The virtual machine that is migrated, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from workload.errors import BadValueError
from workload.value import check_settings, setting


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

    def __post_init__(self) -> None:
        check_settings(self)
        size = self.dirty_ring_size
        if size & (size - 1):
            raise BadValueError(f"hardware.dirty_ring_size={size}: want a power of two between 1024 and 65536")
        if size and self.accelerator == "tcg":
            raise BadValueError(f"hardware.dirty_ring_size={size}: only KVM has a dirty ring, accelerator is tcg")
        if self.machine == "microvm" and self.vcpus > 1:
            raise BadValueError(f"hardware.vcpus={self.vcpus}: want 1 on a microvm (docs/qemu.md)")

    @property
    def memory_bytes(self) -> int:
        """Guest RAM in bytes."""
        return self.memory_mib << 20
