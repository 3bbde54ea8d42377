"""The console source: the guest's lines, stamped at their arrival."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from driver.clock import Clock
from exporter.journal import Batch
from exporter.sample import Sample
from exporter.selfmetrics import SelfMetrics
from workload.console import Disk, GuestError, Latency, Parser, Phase, Ready, Xor
from workload.follow import Arrival, Follower

GATHER_SECONDS = 0.05
NANO = 1e-9


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Where an exporter that died had come to: the console's offset, and host stamp minus guest clock of its last tick.

    `clock_offset_ns` is None where there was no tick yet.
    """

    offset: int = 0
    clock_offset_ns: int | None = None


class ConsoleSource:
    """Follows one QEMU's console file.

    Lines that were there before this source was first opened arrived at a time that nobody saw: they are stamped guest
    clock + last known offset (the present where none is known) and carry no `offset_seconds`.
    """

    name = "console"

    def __init__(self, role: str, path: Path, clock: Clock, resume: Resume, metrics: SelfMetrics) -> None:
        self.role = role
        self._path = path
        self._clock = clock
        self._offset = resume.offset
        self._clock_offset_ns = resume.clock_offset_ns
        self._metrics = metrics
        self._garbage_lines = 0

    async def __aenter__(self) -> Self:
        self._unseen_bytes = self._path.stat().st_size if self._path.exists() else 0
        self._garbage_lines = 0
        async with AsyncExitStack() as stack:
            self._follower = await stack.enter_async_context(Follower(self._path, self._offset))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def follow(self, take: Callable[[Batch], None]) -> None:
        """Hand on the samples of each arrival with the offset behind them."""
        async for arrivals in self._follower:
            take(self._batch(arrivals))
            # lines are stamped as they arrive, by the event loop's callback: handing them on may wait
            await asyncio.sleep(GATHER_SECONDS)

    async def rest(self) -> Batch:
        """What the file holds and was not handed on yet."""
        return self._batch(self._follower.read_rest())

    def _batch(self, arrivals: list[Arrival]) -> Batch:
        self._count_garbage()
        samples = [sample for arrival in arrivals if (sample := self._sample(arrival))]
        if arrivals:
            self._offset = arrivals[-1].end_offset
        return Batch(samples=samples, offsets={self.role: self._offset} if arrivals else {})

    def _sample(self, arrival: Arrival) -> Sample | None:
        record = arrival.record
        if isinstance(record, Ready | GuestError):
            return None
        seen = arrival.end_offset > self._unseen_bytes
        stamp_ns = self._clock.stamp(arrival.stamp_ns)
        if not seen and self._clock_offset_ns is not None:
            stamp_ns = record.guest_ns + self._clock_offset_ns
        match record:
            case Xor():
                fields = {
                    "bytes": float(record.bytes),
                    "seconds": record.taken_ns * NANO,
                    "sequence": float(record.sequence),
                }
                return Sample("guest_xor", stamp_ns, fields, {"vcpu": str(record.vcpu)})
            case Latency():
                return Sample("guest_latency", stamp_ns, _latency_fields(record), {"role": self.role})
            case Disk():
                return Sample("guest_disk", stamp_ns, _disk_fields(record), {"role": self.role})
            case Phase():
                tags = {"role": self.role, "name": f"guest-phase.{record.number}"}
                return Sample("event", stamp_ns, {"count": 1.0}, tags)
        fields = {"guest_seconds": record.guest_ns * NANO, "sequence": float(record.sequence)}
        if seen:
            self._clock_offset_ns = stamp_ns - record.guest_ns
            fields["offset_seconds"] = (arrival.stamp_ns - record.guest_ns) * NANO
        return Sample("guest_tick", stamp_ns, fields)

    def _parser(self) -> Parser:
        return self._follower.parser

    def _count_garbage(self) -> None:
        parser = self._parser()
        if parser.garbage_lines > self._garbage_lines:
            self._metrics.dropped_lines.add(self.role, amount=parser.garbage_lines - self._garbage_lines)
            self._garbage_lines = parser.garbage_lines


def _disk_fields(record: Disk) -> dict[str, float | str]:
    return {
        "bytes": float(record.bytes),
        "seconds": record.taken_ns * NANO,
        "writes": float(record.writes),
        "write_seconds": record.sum_ns * NANO,
        "most_seconds": record.most_ns * NANO,
        "sequence": float(record.sequence),
    }


def _latency_fields(record: Latency) -> dict[str, float | str]:
    accesses = sum(record.counts.values())
    fields: dict[str, float | str] = {
        "accesses": float(accesses),
        "seconds": record.taken_ns * NANO,
        "mean_seconds": record.sum_ns / max(accesses, 1) * NANO,
        "most_seconds": record.most_ns * NANO,
        "sequence": float(record.sequence),
    }
    return fields | {f"bucket{bucket}": float(count) for bucket, count in record.counts.items()}
