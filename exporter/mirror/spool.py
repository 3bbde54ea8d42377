"""The spool of one destination: hard links to journals, and a checkpoint of what was acknowledged.

A mirrored run's segments are linked into the spool, so that nothing is written twice, and what a compaction takes away
from the run's directory stays here until it was sent. Who writes what: the exporter and commands add runs; checkpoint,
dead letters and the removal of what is done with are the mirror process's alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from driver.datadir import DataDir, RunDir, read_json, write_json
from exporter.mirror.destination import Destination
from workload.errors import BrokenError, MigrascopeError
from workload.value import from_json

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Place:
    """How far into a run a mirror has come: all before `offset` of the segment of this number is done with.

    `since_ns` is the `since_ns` of the spooled run as it was begun, `last_ns` the stamp of the newest sample sent.
    """

    segment: int = 0
    offset: int = 0
    since_ns: int
    last_ns: int = 0


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a mirror has done, ever: its counters, why its last request failed, and its place in each run."""

    samples: int = 0
    retries: int = 0
    dropped: int = 0
    dead_letters: int = 0
    collapsed: int = 0
    trouble: str = ""
    places: Mapping[str, Place] = field(default_factory=dict)

    def moved(self, run: str, place: Place | None) -> Checkpoint:
        """The same with another place in a run; None where that run is done with."""
        rest = {name: known for name, known in self.places.items() if name != run}
        return replace(self, places=rest | ({run: place} if place else {}))


@dataclass(frozen=True, kw_only=True)
class SpooledRun:
    """One run in a spool: paths. Its segments and its record are links to the run's own."""

    kept: RunDir

    @property
    def run(self) -> str:
        """The run's id."""
        return self.kept.run

    @property
    def since(self) -> Path:
        """An empty file whose time says since when; touching it has the run sent from its start."""
        return self.kept.path / "since"

    @property
    def live(self) -> Path:
        """There while an exporter writes the run's journal; one that was killed leaves it to its successor."""
        return self.kept.path / "live"

    @property
    def since_ns(self) -> int:
        """When the run was spooled."""
        return self.since.stat().st_mtime_ns

    def place(self, checkpoint: Checkpoint) -> Place:
        """Where a mirror goes on; a run that was spooled again is begun again."""
        known, since_ns = checkpoint.places.get(self.run), self.since_ns
        return known if known and known.since_ns == since_ns else Place(since_ns=since_ns)

    def waiting_bytes(self, place: Place) -> int:
        """How much of its journal lies behind a place."""
        sizes = [path.stat().st_size for path in self.kept.journals()[place.segment :]]
        return max(sum(sizes) - place.offset, 0)

    def link(self, run: RunDir, *, segments: bool = True) -> None:
        """Link the run's record, and those segments that are not linked yet; OSError passes through."""
        self.kept.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.kept.record.exists():
            os.link(run.record, self.kept.record)
        linked = {path.stat().st_ino for path in self.kept.journals()}
        for segment in run.journals() if segments else ():
            if segment.stat().st_ino not in linked:
                os.link(segment, self.kept.new_journal())


@dataclass(frozen=True, kw_only=True)
class Spool:
    """One destination's directory in the data directory."""

    path: Path
    destination: Destination

    @property
    def dead_letters(self) -> Path:
        """Rows that the destination will never take, one JSON object a line, each with the reason."""
        return self.path / "dead-letters.jsonl"

    @property
    def retried_letters(self) -> Path:
        """Dead letters that are to be sent again: the mirror process takes them from here."""
        return self.path / "dead-letters.retry.jsonl"

    @property
    def _checkpoint(self) -> Path:
        return self.path / "checkpoint.json"

    def runs(self) -> list[SpooledRun]:
        """The runs that are spooled, oldest first."""
        found = [SpooledRun(kept=RunDir(path=path)) for path in sorted((self.path / "runs").glob("*"))]
        return [run for run in found if run.since.exists()]

    def follow(self, run: RunDir) -> None:
        """Spool a run whose journal has just been opened; what is spooled already stays.

        Raises:
            BrokenError: the disk refuses, or has no hard links.
        """
        with self.adding(run) as spooled:
            spooled.kept.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            spooled.live.touch()
            spooled.link(run)
            if not spooled.since.exists():
                spooled.since.touch()

    def release(self, run: RunDir) -> None:
        """Note that an exporter has closed a run's journal."""
        self._spooled(run).live.unlink(missing_ok=True)

    def finish(self, run: SpooledRun, place: Place) -> bool:
        """Forget a run that is done with, unless it was spooled or is written again meanwhile; whether it went."""
        with self._changing():
            again = run.live.exists() or len(run.kept.journals()) > place.segment + 1
            if run.since_ns != place.since_ns or again:
                return False
            shutil.rmtree(run.kept.path, ignore_errors=True)
            return True

    @contextlib.contextmanager
    def adding(self, run: RunDir) -> Iterator[SpooledRun]:
        """Hold the spool while a run is added to it.

        Raises:
            BrokenError: the disk refused what was done inside.
        """
        try:
            with self._changing():
                yield self._spooled(run)
        except OSError as error:
            raise BrokenError(f"run {run.run}: cannot be spooled in {self.path}: {error.strerror}") from error

    def checkpoint(self) -> Checkpoint:
        """Read the checkpoint; where it is missing or damaged all is sent again, which changes nothing over there."""
        with contextlib.suppress(MigrascopeError, TypeError, AttributeError):
            data, where = read_json(self._checkpoint), str(self._checkpoint)
            places = {run: from_json(Place, place, where) for run, place in data["places"].items()}
            return replace(from_json(Checkpoint, {**data, "places": {}}, where), places=places)
        return Checkpoint()

    def keep(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint; OSError passes through. A loss of power may cost it: then all is sent again."""
        write_json(self._checkpoint, asdict(checkpoint), durable=False)

    def waiting_bytes(self, checkpoint: Checkpoint) -> int:
        """How much journal the destination has yet to acknowledge."""
        return sum(run.waiting_bytes(run.place(checkpoint)) for run in self.runs())

    def _spooled(self, run: RunDir) -> SpooledRun:
        return SpooledRun(kept=RunDir(path=self.path / "runs" / run.run))

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the spool against other processes while a run comes or goes."""
        handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def spool_for(data: DataDir, destination: Destination) -> Spool:
    """Make, or find again, a destination's spool; its token file and bound become those that are named now.

    Raises:
        BadValueError: the token cannot be read.
        BrokenError: the disk refuses.
    """
    destination.token()
    spool = Spool(path=data.spool / destination.name, destination=destination)
    try:
        write_json(spool.path / "destination.json", asdict(destination))
    except OSError as error:
        raise BrokenError(f"spool {spool.path}: cannot be written: {error.strerror}") from error
    return spool


def spools(data: DataDir) -> list[Spool]:
    """All spools of a data directory; one whose destination.json is damaged is left out and hides no other."""
    found = []
    for path in sorted(data.spool.glob("*/destination.json")):
        with contextlib.suppress(MigrascopeError):
            found.append(Spool(path=path.parent, destination=from_json(Destination, read_json(path), str(path))))
    return found


def forget_dead_exporters(data: DataDir) -> None:
    """Take back what a killed exporter said to be live; the caller knows that none serves the data directory."""
    for spool in spools(data):
        for run in spool.runs():
            run.live.unlink(missing_ok=True)
