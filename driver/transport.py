"""What carries the migration stream between the two QEMUs: a table of small values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workload.errors import BrokenError


@dataclass(frozen=True, kw_only=True)
class Transport:
    """How the destination listens, and how the source finds it.

    `listen` writes the address for `migrate-incoming`; `reach` the one for `migrate`, from the listening address and
    what the destination's query-migrate said once it listened.
    """

    listen: Callable[[Path], str]
    reach: Callable[[str, Mapping[str, Any]], str]


def _reach_port(_listening: str, reply: Mapping[str, Any]) -> str:
    """Read the port that the kernel chose from `socket-address` (QEMU qapi/migration.json, MigrationInfo)."""
    for address in reply.get("socket-address", ()):
        if address.get("type") == "inet":
            return f"tcp:{address['host']}:{address['port']}"
    raise BrokenError("destination: QEMU does not say on which port it listens")


TRANSPORTS: dict[str, Transport] = {
    "unix": Transport(
        listen=lambda runtime: f"unix:{runtime / 'migrate.sock'}", reach=lambda listening, _reply: listening
    ),
    "tcp": Transport(listen=lambda _runtime: "tcp:127.0.0.1:0", reach=_reach_port),
}
"""Each transport of `scenario.TRANSPORTS`."""
