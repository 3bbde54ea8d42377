"""Remote write's dialect: values of series as snappy-compressed protobuf, version 1 of Prometheus' protocol."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

import cramjam
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError
from urllib3.util import make_headers

from exporter.mirror.bounded import Deadline, pause_of
from exporter.mirror.destination import Destination
from exporter.mirror.dialect import Dialect, Row, WriteFailedError
from exporter.mirror.exact import STALE, ExactEncoder, ExactValue
from exporter.mirror.prompb import write_request

REQUEST_SECONDS = 10.0


class RemoteWriter:
    """Writes values to one receiver; each request has 10 s in all.

    Raises:
        BadValueError: the token cannot be read.
    """

    def __init__(self, destination: Destination) -> None:
        self._url = destination.url
        self._manager = PoolManager(num_pools=1, maxsize=1, retries=False)
        self._deadline = Deadline(self._manager)
        self._headers = {
            "Content-Encoding": "snappy",
            "Content-Type": "application/x-protobuf",
            "X-Prometheus-Remote-Write-Version": "0.1.0",
            "User-Agent": f"migrascope/{metadata.version('migrascope')}",
        }
        token = destination.token()
        if token and destination.user:
            self._headers["Authorization"] = make_headers(basic_auth=f"{destination.user}:{token}")["authorization"]
        elif token:
            self._headers["Authorization"] = f"Bearer {token}"

    def write(self, rows: Sequence[Row]) -> None:
        """Write values."""
        body = bytes(cramjam.snappy.compress_raw(write_request(rows)))
        try:
            with self._deadline.within(REQUEST_SECONDS):
                answer = self._manager.request(
                    "POST", self._url, body=body, headers=self._headers, timeout=Timeout(total=REQUEST_SECONDS),
                    redirect=False,
                )  # fmt: skip
        except (HTTPError, OSError) as error:
            raise WriteFailedError(f"{type(error).__name__}: {error}") from error
        if not 200 <= answer.status < 300:
            text = answer.data.decode(errors="replace")
            pause = pause_of(answer.headers.get("Retry-After"))
            raise WriteFailedError(f"{answer.status} {text}", status=answer.status, pause_seconds=pause)

    def close(self) -> None:
        """Close the connections."""
        self._manager.clear()


def _row(data: Any) -> ExactValue:
    labels, time_ms, value = data
    return (
        tuple((str(name), str(word)) for name, word in labels),
        int(time_ms),
        STALE if value is None else float(value),
    )


DIALECT: Dialect = Dialect(writer=RemoteWriter, encoder=ExactEncoder, row_from_json=_row)
