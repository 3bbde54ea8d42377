"""summary.json: a run's figures, derived from its samples and its record; they can always be computed again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from driver.datadir import RunDir, read_json, write_json
from workload.errors import BadValueError
from workload.value import from_json

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A stretch in which a QEMU (`role`) was not polled, or (`exporter`) at whose end samples could not be written."""

    role: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A run's figures in base units. A figure that is None has its reason in `why`, under its own name.

    `*_seconds_per_gib_*` is what one vCPU took for one GiB, on the guest's clock: settled, from the migration's start
    to STOP, and from RESUME to the end of recover; of a background snapshot from RESUME to its end, and from there on.
    `blackout_seconds` is an upper bound where `blackout_upper_bound`. `cpu_seconds` maps role -> kind of thread ->
    seconds over the migration (kind `process`: the whole QEMU); `source_extra_resident_bytes` is what the source's QEMU
    took on meanwhile. `*_access_seconds_*` is what one access of the guest to its memory took (`exporter.latency`):
    percentiles are upper bounds, within a factor of two.
    `disk_mirror_*` is what the mirror of the guest's disk took: to catch up, behind as the guest stopped, to write all
    out then, what the switchover waited for its end, what it copied; `*_disk_write_seconds` is the mean of the guest's
    writes, `_max` the longest from the migration's start on. Moments (`*_ns`) are of the run's clock.
    """

    schema: int = SCHEMA
    run: str
    settle_seconds_per_gib_mean: float | None = None
    settle_seconds_per_gib_p95: float | None = None
    migrate_seconds_per_gib_mean: float | None = None
    migrate_seconds_per_gib_p95: float | None = None
    recover_seconds_per_gib_mean: float | None = None
    recover_seconds_per_gib_p95: float | None = None
    blackout_seconds: float | None = None
    blackout_upper_bound: bool = False
    stop_resume_seconds: float | None = None
    qemu_downtime_seconds: float | None = None
    longest_silence_seconds: float | None = None
    total_seconds: float | None = None
    iterations: float | None = None
    transferred_bytes: float | None = None
    precopy_bytes: float | None = None
    downtime_bytes: float | None = None
    postcopy_bytes: float | None = None
    multifd_bytes: float | None = None
    time_to_first_throttle_seconds: float | None = None
    max_throttle_percent: float | None = None
    before_access_seconds_p50: float | None = None
    before_access_seconds_p99: float | None = None
    before_access_seconds_max: float | None = None
    during_access_seconds_p50: float | None = None
    during_access_seconds_p99: float | None = None
    during_access_seconds_max: float | None = None
    post_copy_access_seconds_p50: float | None = None
    post_copy_access_seconds_p99: float | None = None
    post_copy_access_seconds_max: float | None = None
    after_access_seconds_p50: float | None = None
    after_access_seconds_p99: float | None = None
    after_access_seconds_max: float | None = None
    disk_mirror_ready_seconds: float | None = None
    disk_mirror_lag_bytes: float | None = None
    disk_mirror_drain_seconds: float | None = None
    disk_mirror_switchover_seconds: float | None = None
    disk_mirror_copied_bytes: float | None = None
    disk_written_bytes: float | None = None
    settle_disk_bytes_per_second: float | None = None
    settle_disk_write_seconds: float | None = None
    migrate_disk_bytes_per_second: float | None = None
    migrate_disk_write_seconds: float | None = None
    migrate_disk_write_seconds_max: float | None = None
    cpu_seconds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    peak_resident_bytes: Mapping[str, float] = field(default_factory=dict)
    source_extra_resident_bytes: float | None = None
    migrate_start_ns: int | None = None
    stop_ns: int | None = None
    resume_ns: int | None = None
    migrate_end_ns: int | None = None
    samples: int = 0
    damaged_lines: int = 0
    dropped_values: int = 0
    missed_polls: int = 0
    gaps: tuple[Gap, ...] = ()
    why: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise BadValueError(f"run {self.run}: summary has schema {self.schema}, this migrascope knows {SCHEMA}")


def write_summary(run: RunDir, summary: Summary) -> None:
    """Write summary.json atomically; OSError passes through."""
    write_json(run.summary, asdict(summary))


def read_summary(run: RunDir) -> Summary:
    """Read summary.json strictly.

    Raises:
        MigrascopeError: it is missing, damaged, or of another schema.
    """
    where = str(run.summary)
    data = read_json(run.summary)
    if isinstance(data, dict) and isinstance(data.get("gaps"), list):
        data = data | {"gaps": tuple(from_json(Gap, gap, f"{where}: gaps") for gap in data["gaps"])}
    return from_json(Summary, data, where)
