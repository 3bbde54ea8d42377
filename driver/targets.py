"""targets.json: what the exporter needs to know to watch a live run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from driver.clock import Clock, ClockOffset
from driver.datadir import RunDir, read_json, write_json
from driver.record import RunRecord
from workload.value import from_json


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """What is on another host: the socket, forwarded from there, that gives its samples, and how its clocks stand."""

    samples: str
    clock: ClockOffset


@dataclass(frozen=True, kw_only=True)
class Target:
    """One QEMU of a run: its role, process, the exporter's own monitor socket, its console file.

    `console` is None where it tells of another guest than the run's: the copy that a snapshot was loaded into.
    `elsewhere` says that process and console are on another host.
    """

    role: str
    pid: int
    monitor: str
    console: str | None
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


class Watched(Protocol):
    """A QEMU as far as its watcher must know it."""

    @property
    def pid(self) -> int:
        """Its process's id on its own host."""

    @property
    def launch(self) -> Launched:
        """Where its files are."""


class Launched(Protocol):
    """The files of a QEMU."""

    @property
    def watch_socket(self) -> Path:
        """The exporter's own monitor."""

    @property
    def console(self) -> Path:
        """The guest's console."""


def targets_of(record: RunRecord, qemus: Mapping[str, Watched], sockets: Mapping[str, Path] | None = None) -> Targets:
    """A run's QEMUs by role; `sockets` are those to the destination's host, where that is not this one."""
    elsewhere = {}
    if sockets and record.clock_offset:
        elsewhere["destination"] = Elsewhere(samples=str(sockets["samples"]), clock=record.clock_offset)
    return Targets(
        run=record.run,
        campaign=record.campaign,
        scenario=record.scenario_name,
        host=record.host.name,
        clock=record.clock,
        targets=tuple(
            Target(
                role=role, pid=qemu.pid, monitor=str(qemu.launch.watch_socket), elsewhere=elsewhere.get(role),
                console=None if record.kind == "snapshot" and role == "destination" else str(qemu.launch.console),
            )
            for role, qemu in qemus.items()
        ),
    )  # fmt: skip


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
