"""What a run is asked to be, as a value, and the id that it gets."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from driver.hardware import Hardware
from driver.scenario import Scenario
from driver.scenario_settings import CONVOY_MOST
from driver.seat import Seat
from driver.settle import Settle
from driver.ssh import check_destination
from driver.watch import Sampling
from workload.errors import BadValueError
from workload.settings import Workload

ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|[0-9A-Fa-f:.%\w-]+")
RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One run: what is migrated and how, with which QEMUs; the destination's is the source's by default.

    `destination_host` is the ssh destination of the destination's host (None: this one), and `destination_address`
    where the source reaches it (None: where ssh does).
    `run` is the id that the run is to have (a campaign writes it down before the run starts); None: a new one. `convoy`
    is the id of the convoy that it belongs to, `seat` its place there.
    """

    scenario: Scenario
    hardware: Hardware
    workload: Workload
    source_binary: str = "qemu-system-x86_64"
    destination_binary: str | None = None
    destination_host: str | None = None
    destination_address: str | None = None
    kernel: Path | None = None
    warm_start: bool = False
    settle: Settle = field(default_factory=Settle)
    sampling: Sampling = field(default_factory=Sampling)
    campaign: str | None = None
    comparison: str | None = None
    run: str | None = None
    convoy: str | None = None
    seat: Seat | None = None

    def __post_init__(self) -> None:
        if self.destination_host is not None:
            check_destination(self.destination_host)
        if (self.destination_host is not None) != (self.scenario.hosts == "ssh"):
            found = f"destination host {self.destination_host}, scenario.hosts={self.scenario.hosts!r}"
            raise BadValueError(f"{found}: a destination host goes with hosts=ssh, and only with that")
        if self.destination_address is not None and not ADDRESS.fullmatch(self.destination_address):
            raise BadValueError(f"destination address {self.destination_address!r}: want a host's name or IP address")
        if self.run is not None and not RUN_ID.fullmatch(self.run):
            raise BadValueError(f"run id {self.run!r}: want the form of {new_run_id()}")


def on_hosts(scenario: Scenario, destination_host: str | None) -> Scenario:
    """The scenario with its destination on the host that was asked for; the usual transport is then tcp.

    Raises:
        BadValueError: its transport does not leave a host.
    """
    if destination_host is None:
        return scenario
    transport = "tcp" if scenario.transport == Scenario().transport else scenario.transport
    return replace(scenario, hosts="ssh", transport=transport)


def new_run_id() -> str:
    """A run id that sorts by time (UTC) and is random behind it: 20261123-235959-4f2a."""
    number = secrets.randbelow(0x10000 - CONVOY_MOST)  # the other guests of a convoy count on from it
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{number:04x}"
