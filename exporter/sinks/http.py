"""The HTTP face of the exporter: /metrics and a landing page, on 127.0.0.1 only, a thread for each request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

ADDRESS = "127.0.0.1"
CLIENT_SECONDS = 10.0

LANDING = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>migrascope exporter</title></head>
<body><h1>migrascope exporter</h1>
<p>Watches live migrations of QEMU. <a href="/metrics">Metrics</a> for Prometheus.</p></body></html>
"""


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_SECONDS  # a client that says nothing, or does not read, holds its own thread only as long

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Keep quiet: a scrape a second is no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking DNS for the host's name, as HTTPServer would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of our errors."""


class MetricsServer:
    """Serves a registry from its construction to `close`.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, registry: CollectorRegistry, port: int) -> None:
        self._server = _Server((ADDRESS, port), _Handler)
        self._server.set_app(_application(registry))
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving; requests under way are not waited for."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _application(registry: CollectorRegistry) -> Callable[..., Iterable[bytes]]:
    metrics = make_wsgi_app(registry)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                return metrics(environ, start_response)  # type: ignore[no-any-return]  # prometheus_client says Callable
            case "/":
                start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
                return [LANDING]
            case _:
                start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
                return [b"not found: see /metrics\n"]

    return application
