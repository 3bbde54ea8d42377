"""The way to a dask.distributed scheduler: its address, encrypted or on loopback, and a connection to it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from workload.errors import BadValueError, MigrascopeError, UnsupportedError

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 3.0


def check_address(address: str, *, unencrypted: bool) -> str:
    """Return a scheduler's address with its scheme.

    Raises:
        BadValueError: it is none, or neither encrypted nor on loopback though nobody said that this is meant.
    """
    whole = address if "://" in address else f"tcp://{address}"
    parts = urlsplit(whole)
    try:
        complete = bool(parts.hostname and parts.port)
    except ValueError:  # a port that is no number
        complete = False
    if parts.scheme not in ("tcp", "tls") or not complete:
        raise BadValueError(f"scheduler {address!r}: want tcp://HOST:PORT or tls://HOST:PORT")
    if parts.scheme == "tcp" and not _on_loopback(str(parts.hostname)) and not unencrypted:
        raise BadValueError(
            f"scheduler {address}: is not encrypted, and who reaches it can run programs on its workers; want tls://,"
            " or --unencrypted in a network of your own"
        )
    return whole


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Client]:
    """Connect to a scheduler.

    Certificates for `tls://` are those of Dask's own configuration (`distributed.comm.tls`).

    Raises:
        UnsupportedError: distributed is not installed.
        MigrascopeError: the scheduler does not answer, or there is no certificate to show to it.
    """
    try:
        from distributed import Client  # noqa: PLC0415 - an extra of its own
    except ImportError as error:
        raise UnsupportedError(
            "scheduler: the package distributed is not installed; pip install 'migrascope[campaign]'"
        ) from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # a loss is told in our words
    _check_certificates(address)
    client = Client(  # type: ignore[no-untyped-call]
        address, asynchronous=True, timeout=CONNECT_SECONDS, set_as_default=False, name="migrascope"
    )
    try:
        try:
            await client
        except (OSError, TypeError, ValueError, RuntimeError) as error:
            raise MigrascopeError(
                f"scheduler {address}: does not answer ({str(error).splitlines()[0]}); start one with `dask scheduler`"
            ) from error
        yield client
    finally:
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(client.close(), CLOSE_SECONDS)  # type: ignore[no-untyped-call]


def _check_certificates(address: str) -> None:
    """See whether there is a certificate to show to a scheduler that wants one.

    Raises:
        MigrascopeError: Dask's configuration names none, or one that cannot be used.
    """
    from distributed import Security  # noqa: PLC0415 - an extra of its own

    if not address.startswith("tls://"):
        return
    try:
        found = Security().get_connection_args("client").get("ssl_context")  # type: ignore[no-untyped-call]
        why = "" if found else "it names none"
    except (OSError, ValueError) as error:
        why = str(error)
    if why:
        raise MigrascopeError(
            f"scheduler {address}: want a certificate in Dask's configuration (distributed.comm.tls: ca-file,"
            f" client.cert, client.key): {why}"
        )


def _on_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
