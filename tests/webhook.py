"""A receiver of Alertmanager's webhook: what it is told, and when."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(kw_only=True)
class Told:
    """Every notification, with the Unix time of its arrival; `url` is where it is sent to."""

    url: str
    notifications: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def alerts(self, status: str) -> list[dict[str, Any]]:
        """All alerts that were told with a status (`firing` or `resolved`), in the order of arrival."""
        return [alert for _, note in list(self.notifications) for alert in note["alerts"] if alert["status"] == status]

    def first(self, alertname: str) -> float | None:
        """When an alert was first told to fire."""
        return next(
            (
                at
                for at, note in list(self.notifications)
                for alert in note["alerts"]
                if alert["status"] == "firing" and alert["labels"]["alertname"] == alertname
            ),
            None,
        )


@contextmanager
def receiving() -> Iterator[Told]:
    """Listen on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.notifications.append((time.time(), json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told = Told(url=f"http://127.0.0.1:{server.server_address[1]}/hook")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
