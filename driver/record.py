"""run.json: everything needed to repeat a run, and what became of it. Facts only, one strict reader."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from driver.clock import Clock, ClockOffset
from driver.datadir import RunDir, read_json, write_json
from driver.hardware import Hardware
from driver.scenario import Scenario
from workload.errors import BadValueError, MigrascopeError
from workload.settings import Workload
from workload.value import YOUNGER, from_json

SCHEMA = 1

OUTCOMES: dict[str, int] = {
    "completed": 0,
    "not_converged": 3,
    "failed": 4,
    "guest_lost": 5,
    "unsupported": 6,
    "broken": 7,
    "abandoned": 7,
    "cancelled": 130,
}
"""Each outcome of a run with the exit status of `migrascope run`."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of a run on its clock; `end_ns` is None while it lasts, or where the driver died in it."""

    name: str
    start_ns: int
    end_ns: int | None = None


@dataclass(frozen=True, kw_only=True)
class Binary:
    """A QEMU binary: where it stands, what it calls itself, its content's SHA-256."""

    path: str
    version: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Host:
    """The host on which a run was made."""

    name: str
    cpu: str
    cores: int
    memory_bytes: int
    kernel: str


@dataclass(frozen=True, kw_only=True)
class Guest:
    """What ran in the guest: kernel, initrd, and the loop that its init chose (None until it said `ready`)."""

    kernel_path: str
    kernel_release: str
    kernel_sha256: str
    initrd_sha256: str
    loop: str | None = None
    settled_bytes_per_second: float | None = None


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What a guest's way through a file cost: seconds to save and to load it, the file's length, what it takes on disk.

    Saving ends when the file is complete; loading begins then, and ends when the guest runs again (None: it never
    did). A snapshot's loading begins later, and ends when the destination, which stays stopped, has it. A mapped-ram
    file has holes, so it takes less than its length.
    """

    save_seconds: float
    load_seconds: float | None = None
    file_bytes: int
    disk_bytes: int


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run as its driver knows it.

    A field that has been added since schema 1 was first written is marked `YOUNGER`, so that every record can be read.
    `kind` is `migration`, `save` (the guest went through a file; `saved` says what that cost), `snapshot` (it stayed,
    and a copy of it was saved and loaded; `saved` likewise, unless it went to the destination at once), or `observed`:
    an exporter wrote it of a VM that something else runs, whose name is `vm`; its scenario, hardware and workload are
    None.
    `convoy` is the same for all guests of a convoy: the first one's id.
    `destination_host` is the destination's where it is not `host`, and `clock_offset` its clocks against this one's.
    `accelerator` is what was used and `accelerator_reason` why; `reason` explains any outcome but a plain `completed`;
    `negotiated` holds the machine type of both QEMUs and the capabilities and parameters that both accepted, in QEMU's
    own words and units;
    `limit_reached` is `time`, `iterations` or `schedule`; `final` is QEMU's last reply to query-migrate, as it stands.
    """

    schema: int = SCHEMA
    run: str
    kind: str = "migration"
    vm: str | None = field(default=None, metadata=YOUNGER)
    campaign: str | None = None
    comparison: str | None = None
    convoy: str | None = field(default=None, metadata=YOUNGER)
    clock: Clock
    scenario: Scenario | None
    hardware: Hardware | None
    workload: Workload | None
    host: Host
    destination_host: Host | None = field(default=None, metadata=YOUNGER)
    clock_offset: ClockOffset | None = field(default=None, metadata=YOUNGER)
    source_binary: Binary | None = None
    destination_binary: Binary | None = None
    guest: Guest | None = None
    accelerator: str | None = None
    accelerator_reason: str | None = None
    warm_start: bool = False
    git_revision: str | None = None
    negotiated: Mapping[str, Any] = field(default_factory=dict, metadata=YOUNGER)
    phases: tuple[Phase, ...] = ()
    outcome: str | None = None
    reason: str | None = None
    limit_reached: str | None = None
    saved: Saved | None = field(default=None, metadata=YOUNGER)
    final: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise BadValueError(f"run {self.run}: record has schema {self.schema}, this migrascope knows {SCHEMA}")
        if self.outcome is not None and self.outcome not in OUTCOMES:
            raise BadValueError(f"run {self.run}: outcome {self.outcome!r} is not known")

    @property
    def scenario_name(self) -> str:
        """The scenario's computed name; `observed.NAME` for a migration of a VM that is not ours."""
        return self.scenario.name if self.scenario else f"observed.{self.vm}" if self.vm else "observed"

    def phase(self, name: str) -> Phase | None:
        """The phase of that name, or None when the run never came to it."""
        return next((phase for phase in self.phases if phase.name == name), None)


_PARTS: dict[str, type[Any]] = {
    "clock": Clock,
    "scenario": Scenario,
    "hardware": Hardware,
    "workload": Workload,
    "host": Host,
    "destination_host": Host,
    "clock_offset": ClockOffset,
    "source_binary": Binary,
    "destination_binary": Binary,
    "guest": Guest,
    "saved": Saved,
}


def write_record(run: RunDir, record: RunRecord) -> None:
    """Write run.json atomically."""
    write_json(run.record, dataclasses.asdict(record))


def read_record(run: RunDir) -> RunRecord:
    """Read run.json strictly.

    Raises:
        MigrascopeError: the file is missing or damaged; the message names the file and the key.
    """
    return parse_record(read_json(run.record), str(run.record))


def parse_record(data: object, where: str) -> RunRecord:
    """Read a record from its JSON form; `where` names its file in errors."""
    if not isinstance(data, dict):
        raise MigrascopeError(f"{where}: want an object, found {type(data).__name__}; the file is damaged")
    parts: dict[str, Any] = dict(data)
    try:
        for name, kind in _PARTS.items():
            if parts.get(name) is not None:
                parts[name] = from_json(kind, parts[name], f"{where}: {name}")
        parts["phases"] = tuple(from_json(Phase, phase, f"{where}: phases") for phase in parts.get("phases", ()))
        return from_json(RunRecord, parts, where)
    except TypeError as error:
        raise MigrascopeError(f"{where}: {error}; the file is damaged") from error
