"""VMs of others between their migrations: what their threads and monitors say, under the VM's own name."""

from __future__ import annotations

import platform
import threading
from collections.abc import Collection, Sequence

from driver.clock import Clock
from driver.facts import host_facts
from driver.record import RunRecord
from exporter.journal import Header
from exporter.sample import Sample
from exporter.sinks.series import RunSeries


class RestingVms:
    """The series of each VM at rest; they have no run, and are not shown while a run of the VM is."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._series: dict[str, RunSeries] = {}

    def rest(self, vm: str, samples: Sequence[Sample]) -> None:
        """Take what is seen of a VM at rest."""
        with self._lock:
            series = self._series.get(vm)
            if series is None:
                series = self._series[vm] = _series(vm)
            series.take_all(samples)

    def forget(self, vm: str) -> None:
        """A VM is no longer watched."""
        with self._lock:
            self._series.pop(vm, None)

    def without(self, vms: Collection[str]) -> list[RunSeries]:
        """The series of all but some VMs; the caller holds the lock."""
        return [series for vm, series in self._series.items() if vm not in vms]


def _series(vm: str) -> RunSeries:
    clock = Clock.now()
    record = RunRecord(
        run="", kind="observed", vm=vm, clock=clock, scenario=None, hardware=None, workload=None, host=host_facts()
    )
    header = Header(run="", campaign=None, scenario=record.scenario_name, host=platform.node(), vm=vm, clock=clock)
    return RunSeries(header, record)
