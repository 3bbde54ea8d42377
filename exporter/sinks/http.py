"""The HTTP face of the exporter: /metrics and a landing page, a thread for each connection, on loopback unless told."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry

from exporter.selfmetrics import SelfMetrics
from exporter.sinks.exposition import expose
from exporter.sinks.scrapes import Scrapes
from exporter.sinks.web_config import Gate

ADDRESS = "127.0.0.1"
SILENT_SECONDS = 10.0
"""A client that says nothing, or does not read, is given up after so long."""

CONNECTION_SECONDS = 30.0
"""A client that drips is given up as well: no connection lives longer, whatever it does."""

MOST_CONNECTIONS = 128
LOOK_SECONDS = 0.25

LANDING = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>migrascope exporter</title></head>
<body><h1>migrascope exporter</h1>
<p>Watches live migrations of QEMU. <a href="/metrics">Metrics</a> for Prometheus, as text or OpenMetrics.</p>
</body></html>
"""


@dataclass(frozen=True, kw_only=True)
class Listener:
    """Where /metrics is served and who may come: an address, a port (0: any free one), the gate of a web config."""

    address: str = ADDRESS
    port: int = 0
    gate: Gate | None = None

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return self.gate is not None and self.gate.config.tls is not None

    @property
    def target(self) -> str:
        """Address and port under which this host itself reaches it."""
        address = {"0.0.0.0": ADDRESS, "::": "::1"}.get(self.address, self.address)  # noqa: S104 - compared, not bound
        return f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"

    @property
    def url(self) -> str:
        """Where this host itself finds /metrics."""
        return f"{'https' if self.secure else 'http'}://{self.target}/metrics"


class MetricsServer:
    """Serves a registry from its construction to `close`.

    Connections are accepted in one thread and served in one each, TLS's handshake included: a client that is idle or
    slow holds nothing but its own thread, and that not for long.

    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(self, registry: CollectorRegistry, listener: Listener, scrapes: Scrapes, own: SelfMetrics) -> None:
        self._server = _Server(listener)
        self._server.set_app(_application(registry, listener.gate, scrapes, own))
        self.port: int = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(LOOK_SECONDS,), name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving; requests under way are not waited for."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(WSGIRequestHandler):
    timeout = SILENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Keep quiet: a scrape a second is no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._open: dict[socket.socket, float] = {}
        self._opening = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
        super().__init__((listener.address, listener.port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking DNS for the host's name, as HTTPServer would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self._listener.address, self.server_address[1]
        self.setup_environ()

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - the base class's signature
        """Take a connection, unless there are too many."""
        with self._opening:
            if len(self._open) >= MOST_CONNECTIONS:
                return False
            self._open[request] = time.monotonic()
        return True

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection, in its own thread."""
        request.settimeout(SILENT_SECONDS)
        gate = self._listener.gate
        tls = gate.config.tls if gate else None
        if tls is None:
            super().finish_request(request, client_address)
            return
        # the raw socket stays open beside it, for the deadline and for shutdown_request
        with request.dup() as raw, tls.wrap_socket(raw, server_side=True, do_handshake_on_connect=False) as secured:
            secured.settimeout(SILENT_SECONDS)
            secured.do_handshake()
            super().finish_request(secured, client_address)
            with contextlib.suppress(OSError, ssl.SSLError):
                secured.unwrap()

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        with self._opening:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End the connections that have lived too long; called by the accepting thread a few times a second."""
        oldest = time.monotonic() - CONNECTION_SECONDS
        with self._opening:
            late = [request for request, since in self._open.items() if since < oldest]
        for request in late:
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or speaks no TLS, is none of our errors."""


def _application(
    registry: CollectorRegistry, gate: Gate | None, scrapes: Scrapes, own: SelfMetrics
) -> Callable[..., Iterable[bytes]]:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if gate is not None and not gate.admits(environ.get("HTTP_AUTHORIZATION")):
            own.http_refused.add()
            challenge = ("WWW-Authenticate", 'Basic realm="migrascope"')
            return _text(start_response, "401 Unauthorized", "unauthorized\n", challenge)
        if environ["REQUEST_METHOD"] != "GET":
            return _text(start_response, "405 Method Not Allowed", "want GET\n", ("Allow", "GET"))
        match environ["PATH_INFO"]:
            case "/metrics":
                scrapes.note(_client(environ))
                if (gap := scrapes.longest_gap_seconds()) is not None:
                    own.scrape_gap.set(value=gap)
                answer = expose(
                    registry, accept=environ.get("HTTP_ACCEPT", ""),
                    accept_encoding=environ.get("HTTP_ACCEPT_ENCODING", ""),
                    names=parse_qs(environ.get("QUERY_STRING", "")).get("name[]", ()),
                )  # fmt: skip
                start_response("200 OK", answer.headers)
                return [answer.body]
            case "/":
                start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
                return [LANDING]
            case _:
                return _text(start_response, "404 Not Found", "not found: see /metrics\n")

    return application


def _text(start_response: Callable[..., Any], status: str, text: str, *headers: tuple[str, str]) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), *headers])
    return [text.encode()]


def _client(environ: dict[str, Any]) -> str:
    """What tells one scraper from another on the same host: Prometheus sends its scrape's timeout."""
    names = ("REMOTE_ADDR", "HTTP_USER_AGENT", "HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS")
    return " ".join(str(environ.get(name, ""))[:100] for name in names)
