"""The kinds of destinations: which dialect each one speaks."""

from __future__ import annotations

from exporter.mirror.destination import INFLUXDB, REMOTE_WRITE
from exporter.mirror.dialect import Dialect


def dialect_of(kind: str) -> Dialect:
    """The dialect of a kind. Its client is imported only now: that takes up to half a second.

    Raises:
        ValueError: there is no such kind; a `Destination` has none either.
    """
    if kind == INFLUXDB:
        from exporter.mirror import influxdb  # noqa: PLC0415

        return influxdb.DIALECT
    if kind == REMOTE_WRITE:
        from exporter.mirror import remote_write  # noqa: PLC0415

        return remote_write.DIALECT
    raise ValueError(f"mirror of kind {kind!r}: is not known")
