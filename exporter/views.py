"""The views that queries see: one of each measurement, and those that people ask for most, made of them.

Each view of samples ends with three columns that tell where a row stands in its run: `strategy`, `phase`, and
`migration_seconds` since the migration's start (negative before it).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from driver.marks import PHASES
from exporter.rows import NUMBER, declared_fields, tags_of

MOMENTS = "run_moments"
"""The relation that places samples in their run: `run`, `strategy`, and the start of each phase in nanoseconds."""

LABELS = "run, campaign, scenario, strategy, host, vm"

GUEST = f"""
    SELECT {LABELS}, phase, migration_seconds, time_ns, vcpu, bytes, seconds AS taken_seconds,
           seconds / bytes * 1073741824 AS seconds_per_gib
    FROM guest_xor WHERE bytes > 0
"""  # noqa: S608 - constants

CPU = f"""
    WITH slots AS (
        SELECT {LABELS}, role, kind, index, time_ns // 100000000 AS slot, arg_max(phase, time_ns) AS phase,
               max(migration_seconds) AS migration_seconds, max(time_ns) AS time_ns,
               max(cpu_seconds) AS cpu_seconds, max(run_delay_seconds) AS run_delay_seconds
        FROM qemu_cpu GROUP BY ALL
    )
    SELECT * EXCLUDE (slot),
           (cpu_seconds - lag(cpu_seconds) OVER series) / ((time_ns - lag(time_ns) OVER series) / 1e9) AS cores,
           (run_delay_seconds - lag(run_delay_seconds) OVER series) / ((time_ns - lag(time_ns) OVER series) / 1e9)
               AS waiting_cores
    FROM slots WINDOW series AS (PARTITION BY run, host, role, kind, index ORDER BY time_ns)
"""  # noqa: S608 - constants

ITERATIONS = f"""
    WITH passes AS (
        SELECT {LABELS}, iteration::BIGINT AS iteration, arg_min(phase, time_ns) AS phase, min(time_ns) AS time_ns,
               min(migration_seconds) AS migration_seconds, max(time_ns) AS last_ns,
               max(transferred_bytes) - min(transferred_bytes) AS sent_bytes,
               avg(bandwidth_bytes_per_second) AS bandwidth_bytes_per_second,
               max(dirty_pages_per_second * page_bytes) AS dirty_bytes_per_second,
               max(throttle_percent) AS throttle_percent
        FROM migration WHERE role = 'source' AND iteration > 0 AND migration_seconds >= 0 GROUP BY ALL
    ), verdicts AS (
        SELECT run, iteration::BIGINT AS iteration, max(iteration_remaining_bytes) AS iteration_remaining_bytes,
               max(implied_downtime_seconds) AS implied_downtime_seconds, max(stalled) > 0 AS stalled,
               max(not_converging) > 0 AS not_converging, max(limit_reached) > 0 AS limit_reached
        FROM verdict GROUP BY ALL
    ), paces AS (
        SELECT run, passes.iteration, sum(taken_seconds) / sum(bytes) * 1073741824 AS guest_seconds_per_gib
        FROM (SELECT run, time_ns, taken_seconds, bytes FROM guest WHERE phase IN ('migrate', 'switchover')) AS lines
        ASOF JOIN passes USING (run, time_ns)
        GROUP BY ALL
    )
    SELECT {LABELS}, iteration, phase, migration_seconds, time_ns,
           (coalesce(lead(time_ns) OVER (PARTITION BY run ORDER BY iteration), last_ns) - time_ns) / 1e9
               AS duration_seconds,
           iteration_remaining_bytes, implied_downtime_seconds, sent_bytes, bandwidth_bytes_per_second,
           dirty_bytes_per_second, throttle_percent, guest_seconds_per_gib, stalled, not_converging, limit_reached
    FROM passes LEFT JOIN verdicts USING (run, iteration) LEFT JOIN paces USING (run, iteration)
"""  # noqa: S608 - constants

READY: dict[str, tuple[str, tuple[str, ...], str]] = {
    "guest": (GUEST, ("guest_xor",), "one row a line of a vCPU's worker: its pace in seconds per GiB"),
    "cpu": (CPU, ("qemu_cpu",), "each thread kind's use of cores, smoothed over 100 ms, and its waiting for one"),
    "iterations": (
        ITERATIONS,
        ("migration", "verdict", "guest"),
        "one row an iteration: what remained, was sent and dirtied, the throttle, the guest's pace, the verdict",
    ),
}
"""Each ready view: its SELECT over other views, which those are, and what it is; a view stands behind its sources."""


def with_sources(words: Iterable[str]) -> set[str]:
    """The words, and the names of all views that the views among them are made of."""
    found = set(words)
    for name in reversed(READY):
        if name in found:
            found.update(READY[name][1])
    return found


def measurement_view(name: str, paths: Sequence[str]) -> str:
    """The statement that makes a measurement's view over its files.

    It has the declared columns, also where no file does; those that only files have stand behind them.
    """
    kinds = dict.fromkeys(tags_of(name), "VARCHAR")
    kinds |= {field: "DOUBLE" if kind == NUMBER else "VARCHAR" for field, kind in declared_fields(name).items()}
    columns = [f'NULL::{kind} AS "{column}"' for column, kind in ({"time_ns": "BIGINT"} | kinds).items()]
    shape = f"SELECT {', '.join(columns)} WHERE false"
    if paths:
        names = ", ".join(map(quoted, paths))
        shape += f" UNION ALL BY NAME SELECT * FROM read_parquet([{names}], union_by_name=true)"  # noqa: S608 - quoted
    phases = " ".join(f"WHEN time_ns >= {phase}_ns THEN '{phase}'" for phase in reversed(PHASES))
    return (
        f"CREATE VIEW {identifier(name)} AS SELECT samples.*, strategy, CASE {phases} END AS phase,"  # noqa: S608 - quoted
        f" (time_ns - migrate_ns) / 1e9 AS migration_seconds"
        f" FROM ({shape}) AS samples LEFT JOIN {MOMENTS} ON {MOMENTS}.run = samples.run"
    )


def ready_view(name: str) -> str:
    """The statement that makes a ready view."""
    return f"CREATE VIEW {name} AS {READY[name][0]}"


def quoted(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'
