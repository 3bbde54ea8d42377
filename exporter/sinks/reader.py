"""What is read at a scrape rather than recorded: the host, the campaigns, the exporter's own process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

Readings = Mapping[str, Mapping[tuple[str, ...], float]]
"""Field of a metric -> label values -> number."""


class Reader(Protocol):
    """Reads the metrics of one measurement; called from a scrape's thread. Whatever it raises leaves its part out."""

    measurement: str

    def read(self) -> Readings:
        """The figures as they are now; what cannot be known is absent."""
