"""What takes a live run's samples beside the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from driver.record import RunRecord
from exporter.journal import Header
from exporter.sample import Sample


class Sink(Protocol):
    """A place that samples go to once the journal has acknowledged them.

    All are called on the sampling loop's thread and return at once: a sink that talks to the outside world does
    so in a thread of its own and never raises for what goes wrong there, but counts it.
    """

    def attach(self, header: Header, record: RunRecord) -> None:
        """A run begins to be watched; `header.vm` is its slot, `record` is run.json as it stands."""

    def take(self, run: str, samples: Sequence[Sample]) -> None:
        """Take a batch of a run that is attached, in the order of the journal."""

    def detach(self, run: str) -> None:
        """A run's last sample has been taken."""

    def conclude(self, run: str, figures: Mapping[str, object]) -> None:
        """A run has been stored: the figures of its summary."""
