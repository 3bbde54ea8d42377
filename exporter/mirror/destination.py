"""Where samples are mirrored to, as a value: an InfluxDB 2 or a receiver of Prometheus' remote write."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from driver.watch import Mirroring
from workload.errors import BadValueError

INFLUXDB, REMOTE_WRITE = "influxdb", "remote-write"
TOKEN_VARIABLES: Mapping[str, str] = {
    INFLUXDB: "MIGRASCOPE_INFLUX_TOKEN",
    REMOTE_WRITE: "MIGRASCOPE_REMOTE_WRITE_TOKEN",
}
"""Kind -> the environment variable that holds its token where no file is named."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """One place that samples are sent to.

    `org` and `bucket` are InfluxDB's; `user` is of a remote write with basic authentication, and `token_file`
    then holds its password. Two destinations of one `name` are the same place, whatever their token and bound.

    Raises:
        BadValueError: the URL cannot be used, or it holds a password.
    """

    kind: str
    url: str
    org: str = ""
    bucket: str = ""
    user: str = ""
    token_file: str | None = None
    spool_mib: int = 1024

    def __post_init__(self) -> None:
        if self.kind not in TOKEN_VARIABLES:
            raise BadValueError(f"mirror of kind {self.kind!r}: want one of {', '.join(TOKEN_VARIABLES)}")
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            raise BadValueError(f"{self.kind} URL: is none; want http://HOST:PORT or https://HOST:PORT") from None
        if parts.username or parts.password:
            raise BadValueError(f"{self.kind} URL of {parts.hostname}: holds a password; want a token in a file")
        if not usable:
            raise BadValueError(f"{self.kind} URL {self.url!r}: want http://HOST:PORT or https://HOST:PORT")

    @property
    def name(self) -> str:
        """A name for directories and labels: kind, host, port, and a sum of all that tells two places apart."""
        parts = urlsplit(self.url)
        place = f"{self.kind}\n{self.url}\n{self.org}\n{self.bucket}\n{self.user}"
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = re.sub(r"[^0-9A-Za-z.]+", "-", parts.hostname or "")
        return f"{self.kind}-{host}-{port}-{hashlib.sha256(place.encode()).hexdigest()[:6]}"

    def token(self) -> str | None:
        """Read the token from its file or, where none is named, from the environment; None where there is neither.

        Raises:
            BadValueError: the file cannot be read, is empty, or holds more than one line.
        """
        if self.token_file is None:
            return os.environ.get(TOKEN_VARIABLES[self.kind]) or None
        where = f"{self.kind} token file {self.token_file}"
        try:
            token = Path(self.token_file).read_text().strip()
        except OSError as error:
            raise BadValueError(f"{where}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise BadValueError(f"{where}: is no text, want the token alone") from error
        if not token or any(mark in token for mark in "\r\n"):
            raise BadValueError(f"{where}: {'holds several lines' if token else 'is empty'}, want the token alone")
        return token


def destinations_of(asked: Mirroring) -> list[Destination]:
    """The destinations that a run or an exporter is asked to mirror to.

    Raises:
        BadValueError: a URL cannot be used.
    """
    found = []
    if asked.influx_url is not None:
        found.append(
            Destination(
                kind=INFLUXDB,
                url=asked.influx_url,
                org=asked.influx_org,
                bucket=asked.influx_bucket,
                token_file=asked.influx_token_file,
                spool_mib=asked.spool_mib,
            )
        )
    if asked.remote_write is not None:
        found.append(
            Destination(
                kind=REMOTE_WRITE,
                url=asked.remote_write,
                user=asked.remote_write_user,
                token_file=asked.remote_write_token_file,
                spool_mib=asked.spool_mib,
            )
        )
    return found
