"""What a kind of destination has to be able to do: turn samples into rows of its own, and write rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from driver.record import RunRecord
from exporter.journal import Header
from exporter.mirror.destination import Destination
from exporter.sample import Sample

Row: TypeAlias = Any
"""What can be sent or refused by itself: a line of InfluxDB's protocol, or one value of one series."""

ROW_STATUSES = frozenset({400, 409, 411, 412, 413, 414, 415, 416, 417, 422})
"""Statuses that speak of what was sent. All others (401, 404, 429, 5xx ...) speak of the destination and may pass."""


class WriteFailedError(Exception):
    """A write was not acknowledged.

    `refused`: it never will be, for what its rows hold. Else it is tried again, not before `pause_seconds` (what the
    server asks for).
    """

    def __init__(self, why: str, *, status: int = 0, pause_seconds: float = 0.0) -> None:
        super().__init__(" ".join(why.split())[:300])
        self.status = status
        self.refused = status in ROW_STATUSES
        self.pause_seconds = pause_seconds


class Writer(Protocol):
    """A connection to a destination."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows; they are acknowledged when this returns.

        Raises:
            WriteFailedError: they are not.
        """

    def close(self) -> None:
        """Close the connection."""


class Encoder(Protocol):
    """Turns one run's samples into rows; the rows depend on the samples only, not on how they are batched.

    `remembers`: they depend on all samples before, so that who goes on in the middle reads the run from its start.
    `collapsed` counts the values for which there is no row, since a later one of the same moment took their place.
    """

    remembers: bool
    collapsed: int

    def rows(self, header: Header | None, samples: Sequence[Sample]) -> list[Row]:
        """Take samples in the journal's order; None is the header of a segment that has lost its own."""

    def last(self) -> list[Row]:
        """The rows that end the run."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One kind of destination: its writer, its encoder, and rows as JSON holds them, read back."""

    writer: Callable[[Destination], Writer]
    encoder: Callable[[str, RunRecord | None], Encoder]
    row_from_json: Callable[[Any], Row]
