"""What a run looks like now, built from the very samples that are recorded."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from driver.progress import ENDED
from driver.watch import LiveState
from exporter.journal import Header
from exporter.sample import Sample

GIB = 1 << 30
CPU_WINDOW_NS = 1_000_000_000
SENDERS = frozenset({"migration", "multifd"})
BASELINE_PHASES = ("settle",)


class LiveView:
    """Follows one run's samples; `state` is cheap and may be asked at any time.

    `version` rises whenever the phase, the status or the outcome changes, which watchers are told at once.
    """

    def __init__(self, header: Header) -> None:
        self._header = header
        self.version = 0
        self.outcome: str | None = None
        self._phase = "start"
        self._migrate_ns: int | None = None
        self._last_ns: int | None = None
        self._over = False
        self._fields: Mapping[str, float | str] = {}
        self._verdict: Mapping[str, float | str] = {}
        self._pace: dict[str, float] = {}
        self._settled: dict[str, list[float]] = {}
        self._cpu: dict[str, deque[tuple[int, float]]] = {}
        self._senders: dict[tuple[str, str], deque[tuple[int, float]]] = {}

    def take(self, samples: Sequence[Sample]) -> None:
        """Take a batch as it was recorded."""
        for sample in samples:
            match sample.measurement:
                case "qemu_cpu":
                    kind = sample.tags["kind"]
                    if kind == "process":
                        _note(self._cpu.setdefault(sample.tags["role"], deque()), sample)
                    elif kind in SENDERS and sample.tags["role"] == "source":
                        _note(self._senders.setdefault((kind, sample.tags["index"]), deque()), sample)
                case "guest_xor":
                    self._take_xor(sample)
                case "migration":
                    if sample.tags["role"] == "source":
                        self._take_migration(sample)
                case "event":
                    self._take_event(sample)
                case "verdict":
                    self._verdict = sample.fields

    def sender_cores(self) -> float | None:
        """The CPU of the source's busiest sending thread (migration, multifd) over the last second, in cores."""
        return max((cores for each in self._senders.values() if (cores := _cores(each)) is not None), default=None)

    def state(self, words: str | None = None, bottleneck: str | None = None) -> LiveState:
        """The present state; `words` is the last verdict in a sentence, `bottleneck` what holds the migration back."""
        fields, verdict = self._fields, self._verdict
        dirty = _number(fields, "dirty_pages_per_second")
        iteration = _number(fields, "iteration")
        began, last = self._migrate_ns, self._last_ns
        status = fields.get("status")
        return LiveState(
            run=self._header.run,
            scenario=self._header.scenario,
            phase=self._phase,
            seconds=None if began is None or last is None else max(last - began, 0) / 1e9,
            status=status if isinstance(status, str) else None,
            iteration=None if iteration is None else int(iteration),
            remaining_bytes=_number(fields, "remaining_bytes"),
            total_bytes=_number(fields, "total_bytes"),
            transferred_bytes=_number(fields, "transferred_bytes"),
            dirty_bytes_per_second=None if dirty is None else dirty * (_number(fields, "page_bytes") or 4096.0),
            bandwidth_bytes_per_second=_number(fields, "bandwidth_bytes_per_second"),
            throttle_percent=_number(fields, "throttle_percent"),
            guest_seconds_per_gib=_mean(self._pace.values()),
            baseline_seconds_per_gib=_mean(
                [seconds / amount * GIB for seconds, amount in self._settled.values() if amount]
            ),
            source_cpu_cores=_cores(self._cpu.get("source")),
            destination_cpu_cores=_cores(self._cpu.get("destination")),
            implied_downtime_seconds=_number(verdict, "implied_downtime_seconds"),
            downtime_limit_seconds=_number(fields, "downtime_limit_seconds"),
            eta_seconds=self._eta(),
            eta_low_seconds=_number(verdict, "eta_low_seconds"),
            eta_high_seconds=_number(verdict, "eta_high_seconds"),
            bottleneck=bottleneck,
            stalled=bool(verdict.get("stalled")),
            not_converging=bool(verdict.get("not_converging")),
            verdict=words,
            outcome=self.outcome,
        )

    def _eta(self) -> float | None:
        """Seconds from the last sample to the published moment of the switchover."""
        completion, last = _number(self._verdict, "completion_timestamp_seconds"), self._last_ns
        return None if completion is None or last is None else max(completion - last / 1e9, 0.0)

    def _take_xor(self, sample: Sample) -> None:
        amount, seconds, vcpu = float(sample.fields["bytes"]), float(sample.fields["seconds"]), sample.tags["vcpu"]
        if amount > 0:
            self._pace[vcpu] = seconds / amount * GIB
        if self._phase in BASELINE_PHASES:
            settled = self._settled.setdefault(vcpu, [0.0, 0.0])
            settled[0] += seconds
            settled[1] += amount

    def _take_migration(self, sample: Sample) -> None:
        if sample.fields.get("status") != self._fields.get("status"):
            self.version += 1
        # after a cancel QEMU says only its status: the figures before it are the last that are known
        self._fields = {**self._fields, **sample.fields} if len(sample.fields) < 8 else sample.fields
        if not self._over:
            self._last_ns = sample.time_ns
        self._over = sample.fields.get("status") in ENDED

    def _take_event(self, sample: Sample) -> None:
        if sample.tags["role"] != "driver":
            return
        kind, _, name = sample.tags["name"].partition(".")
        if kind == "phase":
            self._phase = name
            if name == "migrate":
                self._migrate_ns = sample.time_ns
        elif kind == "outcome":
            self.outcome = name
        self.version += 1


def _note(readings: deque[tuple[int, float]], sample: Sample) -> None:
    """Keep a reading of a CPU counter, and those of the second before it."""
    readings.append((sample.time_ns, float(sample.fields["cpu_seconds"])))
    while readings[0][0] < sample.time_ns - CPU_WINDOW_NS:
        readings.popleft()


def _cores(readings: deque[tuple[int, float]] | None) -> float | None:
    if not readings or len(readings) < 2:
        return None
    (began_ns, first), (ended_ns, last) = readings[0], readings[-1]
    return (last - first) / (ended_ns - began_ns) * 1e9


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) else None


def _mean(values: Any) -> float | None:
    numbers = list(values)
    return sum(numbers) / len(numbers) if numbers else None
