"""The protocol between driver and exporter: attach, detach, stored and watch, as JSON lines on a unix socket.

A request is one object with `op`; its answer one object with `ok`, and `error` (one line) where that is false.
`watch` is answered by a stream of states until the run is stored. Every call has a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import orjson

from driver.clock import BOOT_ID
from driver.datadir import DataDir
from workload.errors import BrokenError, MigrascopeError
from workload.value import check_settings, setting

ATTACH_SECONDS = 10.0
DETACH_SECONDS = 5.0
STORED_SECONDS = 15.0
LINE_LIMIT = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Mirroring:
    """Where samples go beside the journal. Tokens are named by their files (the exporter may know them otherwise)."""

    influx_url: str | None = setting(
        None, unit="URL", help="mirror the samples to this InfluxDB 2 (or VictoriaMetrics)", group="mirrors"
    )
    influx_org: str = setting("migrascope", unit="", help="InfluxDB organisation", group="mirrors")
    influx_bucket: str = setting("migrascope", unit="", help="InfluxDB bucket", group="mirrors")
    influx_token_file: str | None = setting(
        None, unit="PATH", help="file with InfluxDB's token, never the token itself", group="mirrors"
    )
    remote_write: str | None = setting(
        None, unit="URL", help="send the samples to this receiver of Prometheus' remote write", group="mirrors"
    )
    remote_write_user: str = setting(
        "", unit="NAME", help="user of basic authentication; none: the token is a bearer token", group="mirrors"
    )
    remote_write_token_file: str | None = setting(
        None, unit="PATH", help="file with the receiver's token or password", group="mirrors"
    )
    spool_mib: int = setting(
        1024, unit="MiB", help="journal kept for a mirror that takes nothing; then the oldest go", group="mirrors",
        low=1, high=1 << 20,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class Sampling(Mirroring):
    """How often a run is sampled, and where its samples go beside the journal; travels in attach."""

    rest_hz: float = setting(10.0, unit="Hz", help="sampling rate at rest", group="telemetry", low=0.1, high=1000)
    active_hz: float = setting(
        100.0, unit="Hz", help="sampling rate while a migration is active", group="telemetry", low=0.1, high=1000
    )


@dataclass(frozen=True, kw_only=True)
class LiveState:
    """What a run looks like now: the same figures that are recorded. What is not known is None.

    `seconds` counts since the migration's start; `guest_seconds_per_gib` is of the last line of each vCPU, their mean;
    CPU figures are cores (1.0 is one core busy).
    """

    run: str
    scenario: str
    phase: str
    seconds: float | None = None
    status: str | None = None
    iteration: int | None = None
    remaining_bytes: float | None = None
    total_bytes: float | None = None
    transferred_bytes: float | None = None
    dirty_bytes_per_second: float | None = None
    bandwidth_bytes_per_second: float | None = None
    throttle_percent: float | None = None
    guest_seconds_per_gib: float | None = None
    baseline_seconds_per_gib: float | None = None
    source_cpu_cores: float | None = None
    destination_cpu_cores: float | None = None
    implied_downtime_seconds: float | None = None
    downtime_limit_seconds: float | None = None
    eta_seconds: float | None = None
    eta_low_seconds: float | None = None
    eta_high_seconds: float | None = None
    bottleneck: str | None = None
    stalled: bool = False
    not_converging: bool = False
    verdict: str | None = None
    outcome: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExporterInfo:
    """exporter.json: the exporter that serves a data directory."""

    pid: int
    boot_id: str
    socket: str
    host: str
    port: int


class ExporterClient:
    """A client of one exporter's watch socket; each call opens its own connection."""

    def __init__(self, info: ExporterInfo) -> None:
        self.info = info

    async def attach(self, run: str, sampling: Sampling) -> str:
        """Have a run watched; returns the slot (`vm` label) that it got once its sources are up.

        Raises:
            MigrascopeError: the exporter refused, with its reason.
            BrokenError: it did not answer within 10 s.
        """
        answer = await self._call({"op": "attach", "run": run, "sampling": asdict(sampling)}, ATTACH_SECONDS)
        return str(answer["vm"])

    async def detach(self, run: str) -> None:
        """End a run's watch; returns once its last figures, marks and console lines are in the journal."""
        await self._call({"op": "detach", "run": run}, DETACH_SECONDS + 1)

    async def stored(self, run: str) -> None:
        """Wait until a run's samples, summary and index row are on disk.

        Raises:
            BrokenError: not within 15 s; the run's journal stays and is compacted later.
        """
        await self._call({"op": "stored", "run": run}, STORED_SECONDS)

    async def status(self) -> Mapping[str, Any]:
        """What the exporter says of itself: version, attached runs, settings."""
        return await self._call({"op": "status"}, 2.0)

    async def watch(self, run: str) -> AsyncIterator[LiveState]:
        """Follow a run's state, a few times a second, until it has been stored or the exporter goes away."""
        known = {field.name for field in fields(LiveState)}
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.wait_for(asyncio.open_unix_connection(self.info.socket), 2.0)
            try:
                writer.write(orjson.dumps({"op": "watch", "run": run}) + b"\n")
                while line := await reader.readline():
                    data = orjson.loads(line)
                    if "run" in data:
                        yield LiveState(**{key: value for key, value in data.items() if key in known})
            finally:
                writer.close()

    async def _call(self, request: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
        operation, socket = request["op"], self.info.socket
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_unix_connection(socket, limit=LINE_LIMIT)
                try:
                    writer.write(orjson.dumps(request) + b"\n")
                    await writer.drain()
                    line = await reader.readline()
                finally:
                    writer.close()
        except TimeoutError as error:
            raise BrokenError(f"exporter (pid {self.info.pid}): no answer to {operation} in {seconds:g} s") from error
        except OSError as error:
            raise BrokenError(f"exporter (pid {self.info.pid}): {error.strerror} on its socket {socket}") from error
        if not line:
            raise BrokenError(f"exporter (pid {self.info.pid}): closed the connection on {operation}")
        answer = orjson.loads(line)
        if not answer.get("ok"):
            raise MigrascopeError(f"exporter: {answer.get('error', 'refused without a reason')}")
        return dict(answer)


def find_exporter(data: DataDir) -> ExporterClient | None:
    """Find the exporter that serves a data directory: exporter.json of this boot whose process lives."""
    try:
        found = orjson.loads(data.exporter.read_bytes())
        info = ExporterInfo(**found)
        if info.boot_id != BOOT_ID.read_text().strip():
            return None
        os.kill(info.pid, 0)
    except (OSError, orjson.JSONDecodeError, TypeError):
        return None
    return ExporterClient(info) if Path(info.socket).exists() else None
