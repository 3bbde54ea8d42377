"""A VM that something else runs: watched for good, and each of its migrations recorded as a run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from exporter.episode import Episode, Surroundings
from exporter.identity import Identity, identify
from exporter.vms import VmQemu

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.1, 5.0

log = logging.getLogger(__name__)


class ObservedVm:
    """Follows one VM through episodes: which QEMUs there are, then watching, up to the end of one migration.

    Between two episodes roles are asked for anew (a destination that got the guest is the next source) and the clock is
    anchored anew. The samples of the two seconds before a migration are recorded with it.
    """

    def __init__(self, name: str, qemus: Sequence[VmQemu], around: Surroundings) -> None:
        self.name = name
        self.qemus = tuple(qemus)
        self._around = around
        self._told: dict[VmQemu, str] = {}

    async def watch(self) -> None:
        """Watch until cancelled; a migration that is under way then is recorded as abandoned."""
        pause = FIRST_RETRY_SECONDS
        try:
            while True:
                ends = self._ends([found for qemu in self.qemus if (found := await self._identified(qemu))])
                if ends:
                    pause = FIRST_RETRY_SECONDS
                    await Episode(self.name, ends, self._around).live(partial(self._other_end, ends))
                else:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, LAST_RETRY_SECONDS)
        finally:
            self._around.resting.forget(self.name)
            self._around.metrics.source_up.forget(self.name)

    def _ends(self, found: Sequence[Identity]) -> list[Identity]:
        """The two ends of the VM's next migration; a QEMU whose guest has gone elsewhere is none, unless it is all."""
        sources = [one for one in found if one.role == "source" and not one.spent] or [
            one for one in found if one.role == "source"
        ]
        return [*sources[:1], *[one for one in found if one.role == "destination"][:1]]

    async def _other_end(self, ends: Sequence[Identity]) -> bool:
        """Whether a QEMU that is not watched has come up and changes which are the ends."""
        idle = [qemu for qemu in self.qemus if qemu not in {end.qemu for end in ends}]
        found = [one for qemu in idle if (one := await self._identified(qemu))]
        return bool(found) and self._ends([*ends, *found]) != list(ends)

    async def _identified(self, qemu: VmQemu) -> Identity | None:
        """The boundary around asking a QEMU what it is: what goes wrong is a metric, and a line where it is new."""
        metrics = self._around.metrics
        try:
            found = await identify(qemu)
        except Exception as error:
            metrics.source_errors.add("monitor")
            if len(self.qemus) == 1:
                metrics.source_up.set(self.name, "source", "monitor", value=0.0)
            words = " ".join(str(error).split()) or type(error).__name__
            if self._told.get(qemu) != words:
                log.warning("vm %s: %s; asked again every few seconds", self.name, words)
            self._told[qemu] = words
            return None
        if self._told.pop(qemu, None):
            log.info("vm %s: %s answers", self.name, qemu.qmp)
        return found
