"""InfluxDB's dialect: a sample is a line, written through InfluxDB's client, synchronously."""

from __future__ import annotations

from collections.abc import Sequence

from influxdb_client.client.exceptions import InfluxDBError
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from urllib3.exceptions import HTTPError

from driver.record import RunRecord
from exporter.journal import Header
from exporter.mirror.bounded import Deadline, pause_of
from exporter.mirror.destination import Destination
from exporter.mirror.dialect import Dialect, Row, WriteFailedError
from exporter.mirror.line_protocol import line, tag_set
from exporter.sample import Sample

REQUEST_SECONDS = 5.0


class LineEncoder:
    """Lines of nanosecond stamps; a run's labels stand on each of them."""

    remembers = False
    collapsed = 0

    def __init__(self, run: str, record: RunRecord | None) -> None:  # noqa: ARG002 - one shape: only labels are needed
        self._run = run

    def rows(self, header: Header | None, samples: Sequence[Sample]) -> list[Row]:
        """One line a sample; none where a sample has no field that could be written."""
        tags = tag_set(header.tags() if header else {"run": self._run})
        return [text for sample in samples if (text := line(sample, tags))]

    def last(self) -> list[Row]:
        """Nothing: a point of InfluxDB needs no end."""
        return []


class LineWriter:
    """Writes lines to one bucket; each request has 5 s in all.

    Raises:
        BadValueError: the token cannot be read.
    """

    def __init__(self, destination: Destination) -> None:
        self._client = connect(destination)
        self._deadline = Deadline(self._client.api_client.rest_client.pool_manager)
        self._api = self._client.write_api(write_options=SYNCHRONOUS)
        self._org, self._bucket = destination.org, destination.bucket

    def write(self, rows: Sequence[Row]) -> None:
        """Write lines."""
        try:
            with self._deadline.within(REQUEST_SECONDS):
                self._api.write(bucket=self._bucket, org=self._org, record="\n".join(rows).encode())
        except InfluxDBError as error:
            status = error.response.status if error.response is not None else 0
            raise WriteFailedError(
                f"{status} {error.message}", status=status, pause_seconds=pause_of(error.retry_after)
            ) from error
        except (HTTPError, OSError) as error:
            raise WriteFailedError(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()  # type: ignore[no-untyped-call]  # as it comes


def connect(destination: Destination) -> InfluxDBClient:
    """Make InfluxDB's client for a destination.

    Raises:
        BadValueError: the token cannot be read.
    """
    return InfluxDBClient(
        url=destination.url,
        token=destination.token() or "",
        org=destination.org,
        timeout=round(REQUEST_SECONDS * 1000),
        enable_gzip=True,
    )


DIALECT: Dialect = Dialect(writer=LineWriter, encoder=LineEncoder, row_from_json=str)
