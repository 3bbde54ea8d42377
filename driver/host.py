"""Where the QEMUs of a run live: both on this host, or each in a network namespace of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from driver.carriage import Carriage
from driver.namespaces import Namespace, joined_namespaces


@dataclass(frozen=True, kw_only=True)
class Host:
    """One side's place: what its QEMU's command line begins with, and the address where the other side reaches it."""

    prefix: tuple[str, ...] = ()
    address: str = "127.0.0.1"


@contextlib.asynccontextmanager
async def run_hosts(
    carriage: Carriage, runtime: Path, link: tuple[Namespace, Namespace] | None = None
) -> AsyncIterator[Mapping[str, Host]]:
    """Make the hosts of a run, by role, or take those of `link`; what was made for it is gone afterwards.

    Raises:
        UnsupportedError: they cannot be made here.
    """
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
