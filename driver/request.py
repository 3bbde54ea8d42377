"""What a run is asked to be, as a value, and the id that it gets."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

from driver.hardware import Hardware
from driver.scenario import Scenario
from driver.watch import Sampling
from workload.settings import Workload


@dataclass(frozen=True, kw_only=True)
class Request:
    """One run: what is migrated and how, with which QEMUs; the destination's is the source's by default."""

    scenario: Scenario
    hardware: Hardware
    workload: Workload
    source_binary: str = "qemu-system-x86_64"
    destination_binary: str | None = None
    kernel: Path | None = None
    warm_start: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    campaign: str | None = None
    comparison: str | None = None


def new_run_id() -> str:
    """A run id that sorts by time (UTC) and is random behind it: 20261123-235959-4f2a."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
