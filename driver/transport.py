"""What can carry a migration stream, and what each of them allows: a table of small values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Transport:
    """What a transport is able to do; QEMU's capabilities and parameters that it needs on both sides.

    `saves`: the stream goes to a file first, and the destination loads it afterwards. `back_channel`: the destination
    can talk back, as the return path and post-copy need. `multifd`: several channels can be opened. `crosses_hosts`:
    it can leave the host. `known_as`: its member of QMP's MigrationAddressType, where a QEMU may lack it.
    """

    saves: bool = False
    back_channel: bool = False
    multifd: bool = False
    crosses_hosts: bool = False
    known_as: str | None = None
    capabilities: tuple[str, ...] = ()
    parameters: Mapping[str, bool] = field(default_factory=dict)


_MAPPED_RAM = ("mapped-ram",)

TRANSPORTS: dict[str, Transport] = {
    "unix": Transport(back_channel=True, multifd=True),
    "tcp": Transport(back_channel=True, multifd=True, crosses_hosts=True),
    "fd": Transport(back_channel=True),
    "exec": Transport(),
    "rdma": Transport(back_channel=True, crosses_hosts=True),
    "exec-file": Transport(saves=True),
    "file": Transport(saves=True, known_as="file"),
    "mapped-ram": Transport(saves=True, multifd=True, known_as="file", capabilities=_MAPPED_RAM),
    "mapped-ram-direct-io": Transport(
        saves=True, multifd=True, known_as="file", capabilities=_MAPPED_RAM, parameters={"direct-io": True}
    ),
}
"""Each transport's name with its facts (source: QEMU docs/devel/migration, and what 7.2 and 10.0 were seen to do)."""
