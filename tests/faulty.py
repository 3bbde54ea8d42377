"""A server that takes writes and follows a script of faults; then it answers 204. It keeps what it was sent."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cramjam

from exporter.mirror.prompb import Labels, write_request_class


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One bad answer. `how`: answer (a status), drop (no byte), hang (nothing, for ever), drip (a byte at a time)."""

    status: int = 503
    how: str = "answer"
    retry_after: str = ""
    body: str = ""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request as it came, with its answer's status (0: it got none)."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    at: float

    @property
    def lines(self) -> list[str]:
        """The lines of a write in InfluxDB's protocol."""
        plain = gzip.decompress(self.body) if self.headers.get("Content-Encoding") == "gzip" else self.body
        return plain.decode().split("\n")

    @property
    def values(self) -> list[tuple[Labels, int, float]]:
        """The values of a remote write."""
        request = write_request_class()()
        request.ParseFromString(bytes(cramjam.snappy.decompress_raw(self.body)))
        return [
            (tuple((label.name, label.value) for label in series.labels), sample.timestamp, sample.value)
            for series in request.timeseries
            for sample in series.samples
        ]


@dataclass(kw_only=True)
class Script:
    """What a server does: `faults` first, one a request; then `judge` says the fault of each request, or None."""

    faults: list[Fault] = field(default_factory=list)
    judge: Callable[[Request], Fault | None] = lambda request: None  # noqa: ARG005 - one shape
    requests: list[Request] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    url: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    def taken(self) -> list[Request]:
        """The requests that were acknowledged."""
        return [request for request in self.requests if request.status == 204]

    def taken_lines(self) -> list[str]:
        """The lines that were acknowledged, in order."""
        return [line for request in self.taken() for line in request.lines]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def _serve(self) -> None:
        script = self.server.script
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        asked = Request(path=self.path, headers=dict(self.headers), body=body, status=0, at=time.monotonic())
        fault = script.faults.pop(0) if script.faults else script.judge(asked)
        status = 204 if fault is None else fault.status if fault.how == "answer" else 0
        script.requests.append(
            Request(path=asked.path, headers=asked.headers, body=body, status=status, at=asked.at)
        )  # fmt: skip
        if fault is None:
            self._answer(204, script.answers.get(f"{self.command} {self.path.partition('?')[0]}"))
        elif fault.how == "answer":
            self._answer(fault.status, fault.body or None, fault.retry_after)
        else:
            self.close_connection = True
            self._misbehave(fault.how)

    def _answer(self, status: int, content: Any, retry_after: str = "") -> None:
        text = (
            b""
            if content is None
            else json.dumps(content).encode()
            if not isinstance(content, str)
            else content.encode()
        )
        self.send_response(200 if content is not None and status == 204 else status)
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _misbehave(self, how: str) -> None:
        ended = self.server.script.ended
        if how == "hang":
            ended.wait()
        elif how == "drip":
            for byte in b"HTTP/1.1 204 No Content\r\nX-Long: " + b"x" * 10_000:
                if ended.wait(0.05):
                    return
                try:
                    self.wfile.write(bytes([byte]))
                except OSError:
                    return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    script: Script


@contextmanager
def faulty_server() -> Iterator[Script]:
    """Serve a script on a free port of loopback."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.script = Script(url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.script
    finally:
        server.script.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
