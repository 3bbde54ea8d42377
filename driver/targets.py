"""targets.json: what the exporter needs to know to watch a live run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from driver.clock import Clock, ClockOffset
from driver.datadir import RunDir, read_json, write_json
from workload.value import from_json


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """What is on another host: the socket, forwarded from there, that gives its samples, and how its clocks stand."""

    samples: str
    clock: ClockOffset


@dataclass(frozen=True, kw_only=True)
class Target:
    """One QEMU of a run: its role, process, the exporter's own monitor socket, its console file.

    `elsewhere` says that process and console are on another host.
    """

    role: str
    pid: int
    monitor: str
    console: str
    elsewhere: Elsewhere | None = None


@dataclass(frozen=True, kw_only=True)
class Targets:
    """A live run's QEMUs, labels and clock."""

    run: str
    campaign: str | None
    scenario: str
    host: str
    clock: Clock
    targets: tuple[Target, ...]


def write_targets(run: RunDir, targets: Targets) -> None:
    """Write targets.json atomically."""
    write_json(run.targets, asdict(targets))


def read_targets(run: RunDir) -> Targets:
    """Read targets.json strictly.

    Raises:
        MigrascopeError: it is missing, damaged, or has other keys.
    """
    where = str(run.targets)
    data = dict(read_json(run.targets))
    data["clock"] = from_json(Clock, data.get("clock"), f"{where}: clock")
    data["targets"] = tuple(_target(dict(item), f"{where}: targets") for item in data.get("targets", ()))
    return from_json(Targets, data, where)


def _target(item: dict[str, Any], where: str) -> Target:
    if item.get("elsewhere") is not None:
        elsewhere = dict(item["elsewhere"])
        elsewhere["clock"] = from_json(ClockOffset, elsewhere.get("clock"), f"{where}: clock")
        item["elsewhere"] = from_json(Elsewhere, elsewhere, f"{where}: elsewhere")
    return from_json(Target, item, where)
