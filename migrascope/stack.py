"""The command that starts, stops and shows the servers around the exporter."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dashboards.tables import servers_table
from migrascope.command import Command
from migrascope.options import add_common_options, data_dir, note
from migrascope.output import print_json, print_table
from workload.cache import cache_dir
from workload.errors import BadValueError

if TYPE_CHECKING:
    from dashboards.stack import Running


def _options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    parser.add_argument(
        "verb", choices=("up", "down", "status"), help="up: start what does not run; down: stop all; status: show"
    )
    parser.add_argument(
        "--long-term", action="store_true", help="up: VictoriaMetrics too; Prometheus writes there what it scrapes"
    )
    parser.add_argument("--webhook", metavar="URL", help="up: where Alertmanager posts alerts (default: nowhere)")


def _stack(arguments: argparse.Namespace) -> int:
    from dashboards import stack  # noqa: PLC0415 - grafanalib would cost every other command 0.15 s

    data = data_dir(arguments)
    match arguments.verb:
        case "up":
            servers = stack.up(data, cache_dir(), long_term=arguments.long_term, webhook=_webhook(arguments.webhook))
            _show(arguments, servers)
            if all(server.name != "grafana" for server in servers):
                note("grafana is not installed: its dashboards are in " + str(data.path / "stack/grafana/dashboards"))
        case "down":
            for server in stack.down(data):
                note(f"stopped {server.name} (pid {server.pid})")
            _show(arguments, [])
        case _:
            servers = stack.running(data)
            _show(arguments, servers)
            return 0 if servers and all(server.state == "up" for server in servers) else 1
    return 0


def _show(arguments: argparse.Namespace, servers: Sequence[Running]) -> None:
    rows = [
        {"server": each.name, "state": each.state, "url": each.url, "pid": each.pid, "log": each.log}
        for each in servers
    ]
    if arguments.json:
        print_json(rows)
    elif rows:
        print_table(servers_table(rows))
    elif arguments.verb == "status":
        note("no server runs; `migrascope stack up` starts them")


def _webhook(url: str | None) -> str | None:
    if url is not None and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise BadValueError(f"stack: --webhook {url!r}: want http://HOST[:PORT]/PATH or https://...")
    return url


COMMANDS = (
    Command(
        name="stack",
        summary="Start, stop or show Prometheus, Alertmanager and their like, on this host's loopback.",
        options=_options,
        action=_stack,
    ),
)
