"""A QEMU of a few lines for the driver's steering: it answers query-migrate from a script and remembers commands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from driver.monitor import ANSWER_SECONDS, Event, RefusedError

CAPABILITIES = ("events", "return-path", "postcopy-ram", "auto-converge")
PARAMETERS = (
    "max-bandwidth", "downtime-limit", "max-postcopy-bandwidth", "cpu-throttle-initial", "cpu-throttle-increment",
    "max-cpu-throttle", "cpu-throttle-tailslow", "throttle-trigger-threshold",
)  # fmt: skip


def reply(status: str, iteration: int = 1, remaining: int = 16 << 20, **more: Any) -> dict[str, Any]:
    """A reply to query-migrate as QEMU 7.2 writes it, of the few fields that steering reads."""
    ram = {
        "remaining": remaining, "dirty-sync-count": iteration, "mbps": 268.0, "page-size": 4096, "normal": 1000,
        "duplicate": 10,
    }  # fmt: skip
    return {"status": status, "ram": ram, "total-time": 1000} | more


@dataclass
class FakeQemu:
    """Answers each query-migrate with the next of `replies`, the last one for ever; `on` maps commands to what follows.

    An entry of `on` is a list of replies that replaces the script once its command was executed.
    """

    role: str
    replies: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    on: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    refuses: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = CAPABILITIES
    status: dict[str, Any] = field(default_factory=lambda: {"status": "running", "running": True})
    commands: list[str] = field(default_factory=list)
    arguments: list[Mapping[str, Any]] = field(default_factory=list)

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        seconds: float = ANSWER_SECONDS,
        out_of_band: bool = False,
    ) -> Any:
        assert seconds > 0
        assert out_of_band == (command in ("migrate-recover", "migrate-pause"))
        await asyncio.sleep(0)
        if command in self.refuses:
            raise RefusedError(self.role, command, "Postcopy is not supported")
        match command:
            case "query-migrate":
                return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            case "query-migrate-capabilities":
                return [{"capability": name, "state": False} for name in self.capabilities]
            case "query-migrate-parameters":
                return dict.fromkeys(PARAMETERS, 0)
            case "query-status":
                return self.status
        if command == "cont":
            self.status = {"status": "running", "running": True}
        self.commands.append(command)
        self.arguments.append(arguments or {})
        self.replies = self.on.get(command, self.replies)
        return {}


@dataclass
class Notebook:
    """Remembers what a migration reports."""

    phases: list[str] = field(default_factory=list)
    actions: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def phase(self, name: str, stamp_ns: int | None = None) -> None:
        assert stamp_ns is None or stamp_ns > 0
        self.phases.append(name)

    def action(self, name: str, detail: Mapping[str, Any], stamp_ns: int | None = None) -> None:
        assert stamp_ns is None
        self.actions.append((name, detail))


def event(role: str, name: str, **data: Any) -> Event:
    """An event as it arrives now."""
    return Event(role=role, name=name, data=data, stamp_ns=time.monotonic_ns())
