"""What an exporter that died has left of a run: the samples it recorded, and where each source had come to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from driver.datadir import RunDir
from exporter.journal import JournalReader
from exporter.sample import Sample
from exporter.sources.console import Resume

SECOND_NS = 1_000_000_000


@dataclass(kw_only=True)
class Left:
    """Where the sources go on; empty for a run that nobody has watched yet."""

    consoles: dict[str, Resume] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)
    last_mark_ns: int = 0
    last_stamps: dict[tuple[str, ...], int] = field(default_factory=dict)

    def console(self, role: str) -> Resume:
        """Where a console is read on."""
        return self.consoles.get(role, Resume())

    def sequence(self, role: str) -> int:
        """The first number of a role's next polls: one is left out, since the polls in between never were."""
        return self.sequences[role] + 2 if role in self.sequences else 0


def read_left(run: RunDir, take: Callable[[Sequence[Sample]], None]) -> Left:
    """Read all segments of a run's journal, hand every batch to `take`, and say where to go on."""
    left = Left()
    offsets: dict[str, int] = {}
    clock_offset_ns: int | None = None
    for path in run.journals():
        for batch in JournalReader(path=path).batches():
            take(batch.samples)
            offsets.update(batch.offsets)
            for sample in batch.samples:
                _note(left, sample)
                if sample.measurement == "guest_tick" and "offset_seconds" in sample.fields:
                    clock_offset_ns = sample.time_ns - round(float(sample.fields["guest_seconds"]) * SECOND_NS)
    left.consoles = {role: Resume(offset=offset, clock_offset_ns=clock_offset_ns) for role, offset in offsets.items()}
    return left


def _note(left: Left, sample: Sample) -> None:
    left.last_stamps[sample.measurement, *sample.tags.values()] = sample.time_ns
    if sample.measurement == "migration":
        left.sequences[sample.tags["role"]] = int(sample.fields["sequence"])
    elif sample.measurement == "event" and sample.tags["role"] == "driver":
        left.last_mark_ns = max(left.last_mark_ns, sample.time_ns)
