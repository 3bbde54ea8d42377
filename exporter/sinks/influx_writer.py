"""One write to InfluxDB through its client, and what its failure means. Importing the client takes half a second."""

from __future__ import annotations

from influxdb_client.client.exceptions import InfluxDBError
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from urllib3.exceptions import HTTPError

from exporter.sinks.influxdb import WriteFailedError

REQUEST_SECONDS = 5.0
MOST_RETRY_AFTER_SECONDS = 8.0
PASSING = frozenset({408, 429})
"""Statuses below 500 that may pass; any other of them says that these lines will never be taken."""


class Writer:
    """Writes lines of nanosecond stamps to one bucket; each request has 5 s."""

    def __init__(self, url: str, org: str, bucket: str, token: str | None) -> None:
        self._client = InfluxDBClient(
            url=url, token=token or "", org=org, timeout=round(REQUEST_SECONDS * 1000), enable_gzip=True
        )
        self._api = self._client.write_api(write_options=SYNCHRONOUS)
        self._org, self._bucket = org, bucket

    def write(self, lines: str) -> None:
        """Write lines; they are acknowledged when this returns.

        Raises:
            WriteFailedError: they are not.
        """
        try:
            self._api.write(bucket=self._bucket, org=self._org, record=lines.encode())
        except InfluxDBError as error:
            status = error.response.status if error.response is not None else 0
            raise WriteFailedError(
                f"{status} {error.message}",
                for_good=status < 500 and status not in PASSING,
                pause_seconds=_seconds(error.retry_after),
            ) from error
        except (HTTPError, OSError) as error:
            raise WriteFailedError(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()  # type: ignore[no-untyped-call]  # as it comes


def _seconds(retry_after: str | None) -> float:
    """Read a Retry-After in seconds, bounded; its other form (a date) counts as none."""
    return min(float(retry_after), MOST_RETRY_AFTER_SECONDS) if retry_after and retry_after.isdigit() else 0.0
