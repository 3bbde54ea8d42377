"""What a run is made with: the request checked against this host, kernel, initrd, binaries and accelerator found."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from driver.accelerator import AcceleratorChoice, choose_accelerator
from driver.binding import Resources, binding, check_bindings
from driver.datadir import RunDir
from driver.facts import binary_facts
from driver.hardware import Hardware
from driver.machine import machine_type
from driver.qemu import Launch
from driver.record import Binary, Guest
from driver.remote import RemoteHost
from driver.remote_qemu import check_there, find_binary, shared_accelerator
from driver.request import Request
from workload.cache import cache_dir
from workload.errors import BadValueError, UnsupportedError
from workload.image import Initrd, build_initrd, guest_command_line
from workload.kernel import Kernel, disk_modules, find_kernel
from workload.settings import Workload

ROLES = ("source", "destination")
KERNEL_MIB, KERNEL_SHARE = 62, 0.04
"""What kernel and init keep of the guest's RAM: 65 of 128 MiB, 90 of 1024, 211 of 4096 (measured, Linux 6.1)."""


@dataclass(frozen=True, kw_only=True)
class Kit:
    """Everything that QEMUs are launched with; `machine` is the type that both know (`driver.machine`)."""

    hardware: Hardware
    machine: str
    workload: Workload
    source: Binary
    destination: Binary
    kernel: Kernel
    initrd: Initrd
    accelerator: AcceleratorChoice

    @property
    def memory_kib(self) -> int:
        """The RAM that both QEMUs are given."""
        versions = (self.source.version, self.destination.version)
        return (self.hardware.memory_mib << 10) + slow_path_kib(self.accelerator.name, versions)

    def guest(self) -> Guest:
        """The guest's part of the record, as far as it is known before it runs."""
        return Guest(
            kernel_path=str(self.kernel.path),
            kernel_release=self.kernel.release,
            kernel_sha256=self.kernel.sha256,
            initrd_sha256=self.initrd.sha256,
        )

    def launch(
        self,
        role: str,
        run: RunDir,
        runtime: Path,
        *,
        incoming: bool,
        runs: bool = True,
        prefix: tuple[str, ...] = (),
        watch_socket: Path | None = None,
    ) -> Launch:
        """The launch of a run's source or destination; its files stand in the run directory, sockets in `runtime`.

        `runs`: a destination lets the guest run by itself once it has it. `prefix` is what its host puts before the
        command line, `watch_socket` where its host has the exporter's monitor reached (None: in `runtime`).
        """
        return Launch(
            role=role,
            prefix=(*prefix, *binding(self.hardware, role)),
            binary=(self.destination if role == "destination" else self.source).path,
            run=run.run,
            hardware=self.hardware,
            machine=self.machine,
            accelerator=self.accelerator.name,
            memory_kib=self.memory_kib,
            kernel=self.kernel.path,
            initrd=self.initrd.path,
            append=guest_command_line(self.workload, self.hardware.vcpus),
            console=run.console(role),
            log=run.log(role),
            watch_socket=watch_socket or runtime / f"{role}.sock",
            incoming=incoming,
            paused=role == "source" or not runs,
            disk=run.disk(role) if self.hardware.disk_mib else None,
            gib_pages=self.workload.guest_page_size == "1g-hugetlb",
        )


def slow_path_kib(accelerator: str, versions: Iterable[str]) -> int:
    """How many KiB of RAM are added so that QEMU does not lose guest memory while it migrates.

    Before 9.0 (8.2.3 and 7.2.11 of upstream, but not Debian's 7.2.22), QEMU's fast path for reading the dirty bitmap
    forgets to reset TCG's TLB: stores go by unseen, and the guest crashes on the destination (12 of 12 paused
    migrations of a 16 MiB working set; 0 of 4 with 10.0). The path is taken only where the RAM is a multiple of
    64 pages (256 KiB), so RAM is made 8 KiB bigger. Source: cpu_physical_memory_sync_dirty_bitmap in ram_addr.h.
    """
    majors = [int(found[0]) if (found := re.match(r"\d+", version)) else 0 for version in versions]
    return 8 if accelerator == "tcg" and min(majors) < 9 else 0


def check_fits(hardware: Hardware, workload: Workload, qemus: int = 2) -> None:
    """Check that the guest fits into its RAM, has the disk that it writes, and `qemus` of it fit into free memory.

    Raises:
        BadValueError: with the figures.
    """
    kept_mib = round(KERNEL_MIB + KERNEL_SHARE * hardware.memory_mib)
    if workload.working_set_mib + kept_mib > hardware.memory_mib:
        raise BadValueError(
            f"hardware.memory_mib={hardware.memory_mib}: want at least the working set's {workload.working_set_mib} MiB"
            f" and about {kept_mib} MiB for the guest's kernel"
        )
    for _, phase in workload.timeline():
        if phase.disk_write_mib_s and not hardware.disk_mib:
            raise BadValueError(
                f"workload.disk_write_mib_s={phase.disk_write_mib_s}: want hardware.disk_mib above 0, a disk"
            )
    free_mib = psutil.virtual_memory().available >> 20
    if qemus * hardware.memory_mib > free_mib and not hardware.huge_pages_mib:  # of these the free ones are counted
        raise BadValueError(
            f"hardware.memory_mib={hardware.memory_mib}: {qemus} QEMUs of that size want"
            f" {qemus * hardware.memory_mib} MiB, this host has {free_mib} MiB free"
        )


async def find_kit(request: Request, remote: RemoteHost | None = None) -> Kit:
    """Find everything; a first run may compile the initrd, fetch a kernel and try KVM.

    `remote` is the destination's host, where that is not this one.

    Raises:
        UnsupportedError: something is missing here.
        BadValueError: the kernel or a binary given is none.
    """
    cache = cache_dir()
    source = await binary_facts(request.source_binary)
    wanted = request.destination_binary or request.source_binary
    if remote:
        destination = await find_binary(remote, wanted)
    else:
        destination = source if wanted == request.source_binary else await binary_facts(wanted)
    machine = await machine_type(request.hardware.machine, source, destination)
    kernel = await asyncio.to_thread(find_kernel, request.kernel, cache)
    modules = await asyncio.to_thread(disk_modules, kernel, cache) if request.hardware.disk_mib else ()
    initrd = await asyncio.to_thread(build_initrd, cache, modules)
    accelerator = await choose_accelerator(request.hardware.accelerator, source.path, kernel, initrd, cache)
    if remote:
        accelerator = shared_accelerator(accelerator, request.hardware.accelerator, remote)
    if request.hardware.dirty_ring_size and accelerator.name != "kvm":
        raise UnsupportedError(
            f"hardware.dirty_ring_size={request.hardware.dirty_ring_size}: only KVM has a dirty ring, and this host's"
            f" guests run under {accelerator.name} ({accelerator.reason})"
        )
    kit = Kit(
        hardware=request.hardware,
        machine=machine,
        workload=request.workload,
        source=source,
        destination=destination,
        kernel=kernel,
        initrd=initrd,
        accelerator=accelerator,
    )
    if remote:
        check_there(kit.hardware, kit.memory_kib, remote)
    check_bindings(kit.hardware, kit.memory_kib, ("source",) if remote else ROLES, Resources.here())
    return kit
