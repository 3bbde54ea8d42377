"""InfluxDB 2's path for writes in front of an InfluxDB 1: the same lines, /api/v2/write becomes /write."""

from __future__ import annotations

import gzip
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.servers import Server


class _Shim(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Shim

    def do_POST(self) -> None:
        asked = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(asked.query)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.refuses:
            self._answer(503, b'{"message": "busy"}')
            return
        if asked.path != "/api/v2/write" or query.get("precision") != ["ns"]:
            self._answer(404, b'{"message": "path not found"}')
            return
        target = f"{self.server.target}/write?db={query['bucket'][0]}&precision=n"
        request = urllib.request.Request(target, data=body, method="POST")
        if encoding := self.headers["Content-Encoding"]:
            request.add_header("Content-Encoding", encoding)
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                self.server.note(gzip.decompress(body) if encoding == "gzip" else body)
                self._answer(reply.status, b"")
        except urllib.error.HTTPError as error:
            reason = json.loads(error.read() or b"{}").get("error", "")
            self._answer(error.code, json.dumps({"code": "invalid", "message": reason}).encode())
        except OSError:
            self._answer(503, b'{"message": "no InfluxDB behind the shim"}')

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        pass


class Shim(ThreadingHTTPServer):
    """The path shim: `url` is what a mirror is given, `target` where InfluxDB is now; `refuses` makes it answer 503.

    `acknowledged` holds measurement and time of every line that InfluxDB has taken.
    """

    daemon_threads = True
    refuses = False

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Shim)
        self.target = target
        self.acknowledged: set[tuple[str, int]] = set()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def note(self, body: bytes) -> None:
        """Note lines that InfluxDB has taken."""
        for text in body.decode().splitlines():
            self.acknowledged.add((text.partition(",")[0], int(text.rpartition(" ")[2])))


@contextmanager
def influx_shim(server: Server) -> Iterator[Shim]:
    """Stand in front of an InfluxDB 1."""
    shim = Shim(server.url)
    thread = threading.Thread(target=shim.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield shim
    finally:
        shim.shutdown()
        shim.server_close()
        thread.join()


def influx_rows(server: Server, database: str, query: str) -> list[dict[str, Any]]:
    """Ask in InfluxQL; each row holds `time` in nanoseconds and what is not null."""
    answer = json.loads(server.get("/query", db=database, q=query, epoch="ns"))
    [result] = answer["results"]
    assert "error" not in result, result
    return [
        {name: value for name, value in zip(series["columns"], row, strict=True) if value is not None}
        for series in result.get("series", [])
        for row in series["values"]
    ]
