"""What of a plan cannot run here, found without booting anything."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from driver.binding import Resources, check_bindings
from driver.campaign_cells import Cell
from driver.check import refusal
from driver.doctor import userfaultfd_refusal
from driver.facts import Binaries
from driver.kit import ROLES, check_fits
from driver.remote import RemoteHost
from driver.remote_qemu import check_there, find_binary
from driver.request import Request
from workload.cache import cache_dir
from workload.errors import MigrascopeError
from workload.kernel import find_kernel


async def refused_cells(cells: Sequence[Cell]) -> dict[str, str]:
    """Map the id of each cell that cannot run here to the reason; binaries and the other host are asked once."""
    binaries = Binaries()
    refused: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        elsewhere = _Elsewhere(stack)
        for cell in cells:
            if reason := await _refusal(cell.request, binaries, elsewhere):
                refused[cell.cell] = reason
    return refused


class _Elsewhere:
    """The other hosts of a plan, each reached once, and their binaries, each looked at once."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._reached: dict[str, tuple[RemoteHost, Binaries] | MigrascopeError] = {}

    async def reach(self, destination: str) -> tuple[RemoteHost, Binaries]:
        """A host and the binaries there.

        Raises:
            MigrascopeError: it cannot be reached, every time.
        """
        if destination not in self._reached:
            runtime = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="migrascope-check-")))
            try:
                remote = await self._stack.enter_async_context(RemoteHost(destination, runtime))
                self._reached[destination] = remote, Binaries(lambda name: find_binary(remote, name))
            except MigrascopeError as error:
                self._reached[destination] = error
        found = self._reached[destination]
        if isinstance(found, MigrascopeError):
            raise found
        return found


async def _refusal(request: Request, binaries: Binaries, elsewhere: _Elsewhere) -> str | None:
    theirs, no_userfaultfd = binaries, userfaultfd_refusal
    hardware, memory_kib = request.hardware, request.hardware.memory_mib << 10
    roles = ("source",) if request.destination_host else ROLES
    try:
        source = await binaries.find(request.source_binary)
        if request.destination_host:
            remote, theirs = await elsewhere.reach(request.destination_host)
            check_there(hardware, memory_kib, remote)
            no_userfaultfd = remote.no_userfaultfd
        check_bindings(hardware, memory_kib, roles, Resources.here())
        destination = await theirs.find(request.destination_binary or request.source_binary)
        if reason := await refusal(request.scenario, hardware, source, destination, no_userfaultfd):
            return reason
        if request.kernel is not None:
            find_kernel(request.kernel, cache_dir())
        check_fits(hardware, request.workload, len(roles) * request.scenario.convoy_guests)
    except MigrascopeError as error:
        return str(error)
    return None
