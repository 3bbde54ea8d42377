"""All VMs of others that an exporter watches: those of its options, and those of its attach file as it stands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from exporter.episode import Surroundings
from exporter.observed import ObservedVm
from exporter.vms import VmQemu, by_name, checked, read_file
from workload.errors import BadValueError

LOOK_SECONDS = 1.0

log = logging.getLogger(__name__)


class ObservedVms:
    """Watches a changing set of VMs.

    The attach file is read again when it changes; one that is wrong then is a line in the log and a count, and the set
    before it stays. A VM whose entries change is watched anew, the others never notice.

    Raises:
        BadValueError: the file is wrong at the start.
    """

    def __init__(self, fixed: Sequence[VmQemu], file: Path | None, around: Surroundings) -> None:
        self._fixed = tuple(fixed)
        self._file = file
        self._around = around
        self._stamp = self._file_stamp()
        self._wanted = self._read()
        self._watched: dict[str, tuple[tuple[VmQemu, ...], asyncio.Task[None]]] = {}

    async def serve(self) -> None:
        """Watch until cancelled."""
        try:
            while True:
                await self._reconcile()
                await asyncio.sleep(LOOK_SECONDS)
                if (stamp := self._file_stamp()) != self._stamp:
                    self._stamp = stamp
                    self._reread()
        finally:
            await self._end(list(self._watched))

    async def _reconcile(self) -> None:
        wanted = by_name(self._wanted)
        await self._end([name for name, (qemus, _) in self._watched.items() if wanted.get(name) != qemus])
        for name, qemus in wanted.items():
            if name in self._watched and self._watched[name][1].done():
                task = self._watched.pop(name)[1]
                log.error("vm %s: its watch ended and is begun anew", name, exc_info=task.exception())
                self._around.metrics.source_errors.add("vm")
            if name not in self._watched:
                log.info("vm %s: is watched (%s)", name, ", ".join(qemu.qmp for qemu in qemus))
                self._watched[name] = (qemus, asyncio.create_task(ObservedVm(name, qemus, self._around).watch()))

    async def _end(self, names: Sequence[str]) -> None:
        tasks = [self._watched.pop(name)[1] for name in names]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _reread(self) -> None:
        try:
            self._wanted = self._read()
        except BadValueError as error:
            log.warning("%s; the VMs named before it changed are still watched", error)
            self._around.metrics.source_errors.add("attach-file")

    def _read(self) -> tuple[VmQemu, ...]:
        return checked([*self._fixed, *(read_file(self._file) if self._file else ())])

    def _file_stamp(self) -> tuple[int, int, int] | None:
        """What tells one content of the file from another; None while it is not there."""
        try:
            facts = self._file.stat() if self._file else None
        except OSError:
            return None
        return (facts.st_ino, facts.st_mtime_ns, facts.st_size) if facts else None
