"""What follows from what the monitors see: the verdicts, and how fast to sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from driver.marks import ATTEMPT, Mark
from driver.progress import ACTIVE, Progress, believed
from exporter.rates import Pace
from exporter.sample import Sample
from exporter.verdicts import Verdicts


class RunObserver:
    """One run as both its monitors see it.

    `migration` quickens while the source says that a migration is under way, `post_copy` while that is post-copy.
    A status counts only after the driver's mark `phase.migrate`: a source that was restored from a file says
    `completed` before it ever migrated. Where there is no driver (`observed`) it counts at once.
    """

    def __init__(
        self,
        *,
        verdicts: Verdicts,
        migration: Pace,
        post_copy: Pace,
        counts: bool,
        changed: Sequence[Callable[[], None]],
    ) -> None:
        self.verdicts = verdicts
        self.migration = migration
        self.post_copy = post_copy
        self.iteration = 0.0
        self.migrating = counts
        self._changed = changed

    def marked(self, mark: Mark) -> list[Sample]:
        """Take a mark of the driver."""
        if mark.kind == "phase" and mark.name == "migrate":
            self.migrating = True
        self.verdicts.marked(mark)
        if mark.kind == "action" and mark.name == ATTEMPT:
            self.iteration = 0.0
            return self.verdicts.withdrawn(mark.time_ns)
        if mark.kind == "action" and mark.name == "limit":
            return self.verdicts.limit_reached(mark.time_ns)
        return []

    def status(self, status: str | None) -> None:
        """Set the pace by the source's status."""
        self.migration.set_active(status in ACTIVE)
        self.post_copy.set_active(status is not None and status.startswith("postcopy"))

    def threads_changed(self) -> None:
        """Threads come and go with the migration's state."""
        for changed in self._changed:
            changed()


class SourceObserver:
    """What the source's monitor tells."""

    def __init__(self, run: RunObserver) -> None:
        self._run = run

    def counts(self) -> bool:
        """Whether this run's own migration has begun."""
        return self._run.migrating

    def limits(self, parameters: Mapping[str, Any]) -> None:
        """Take QEMU's limits."""
        self._run.verdicts.limits(parameters)

    def happened(self, name: str, data: Mapping[str, Any], time_ns: int) -> float | None:
        """Take an event; MIGRATION_PASS says its iteration itself."""
        run = self._run
        if name == "MIGRATION_PASS":
            number = believed(data.get("pass"))
            run.iteration = number if isinstance(number, float) else run.iteration
        elif name == "MIGRATION":
            status = data.get("status")
            run.status(status if isinstance(status, str) else None)
            run.threads_changed()
        run.verdicts.happened("source", name, data, time_ns)
        return run.iteration if run.migrating else None

    def progressed(self, time_ns: int, progress: Progress) -> list[Sample]:
        """Take a reply to query-migrate."""
        run = self._run
        run.status(progress.status)
        run.iteration = max(run.iteration, float(progress.iteration))
        return run.verdicts.progressed(time_ns, progress)


class DestinationObserver:
    """What the destination's monitor tells: figures of its own and the end of the switchover, but no pace."""

    def __init__(self, run: RunObserver) -> None:
        self._run = run

    def counts(self) -> bool:
        """Whether this run's own migration has begun."""
        return self._run.migrating

    def limits(self, parameters: Mapping[str, Any]) -> None:
        """The source's limits count, not the destination's."""

    def happened(self, name: str, data: Mapping[str, Any], time_ns: int) -> float | None:
        """Take an event: RESUME ends the switchover."""
        if name == "MIGRATION":
            self._run.threads_changed()
        self._run.verdicts.happened("destination", name, data, time_ns)
        return self._run.iteration if self._run.migrating else None

    def progressed(self, time_ns: int, progress: Progress) -> list[Sample]:  # noqa: ARG002 - one shape
        """Take a reply to query-migrate: what its events have told is said now."""
        return self._run.verdicts.settled(time_ns) if self._run.verdicts.over else []
