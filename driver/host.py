"""Where the QEMUs of a run live: both here, each in a network namespace, or the destination where ssh leads."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from driver.carriage import Carriage
from driver.kit import Kit
from driver.namespaces import Namespace, joined_namespaces
from driver.qemu import Start, start_here
from driver.remote import RemoteHost
from driver.remote_qemu import start_there


@dataclass(frozen=True, kw_only=True)
class Host:
    """One side's place: what its QEMU's command line begins with, where the other side reaches it, how QEMU starts.

    `watch_socket` is where the exporter reaches its monitor (None: in the run's runtime directory).
    """

    prefix: tuple[str, ...] = ()
    address: str = "127.0.0.1"
    start: Start = start_here
    watch_socket: Path | None = None


@contextlib.asynccontextmanager
async def run_hosts(
    carriage: Carriage,
    kit: Kit,
    runtime: Path,
    link: tuple[Namespace, Namespace] | None = None,
    remote: RemoteHost | None = None,
) -> AsyncIterator[Mapping[str, Host]]:
    """Make the hosts of a run, by role, or take those of `link`; what was made for it is gone afterwards.

    `remote` is the destination's, where that is not this one.

    Raises:
        UnsupportedError: they cannot be made here.
    """
    if remote:
        hashes = {kit.kernel.path: kit.kernel.sha256, kit.initrd.path: kit.initrd.sha256}
        there = Host(address=remote.address, start=lambda launch: start_there(remote, launch, hashes),
                     watch_socket=remote.sockets["exporter"])  # fmt: skip
        yield {"source": Host(), "destination": there}
        return
    if carriage.hosts == "here":
        yield {"source": Host(), "destination": Host()}
        return
    async with contextlib.AsyncExitStack() as stack:
        if link is None:
            making = joined_namespaces(carriage.link_mbit_s, carriage.link_shaper, runtime)
            link = await stack.enter_async_context(making)
        yield {
            role: Host(prefix=namespace.prefix, address=namespace.address)
            for role, namespace in zip(("source", "destination"), link, strict=True)
        }
