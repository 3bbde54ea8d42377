"""Commands that serve: the exporter, and what Grafana and Prometheus are given."""

from __future__ import annotations

import argparse
from pathlib import Path

from driver.watch import Mirroring
from exporter import server
from migrascope.command import Command
from migrascope.options import add_common_options, add_value_options, data_dir, mirroring_from, note
from workload.errors import BadValueError

LAST_PORT = 65535


def _exporter_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser, json=False)
    parser.add_argument(
        "--port", type=int, default=server.DEFAULT_PORT, metavar="N", help="port of /metrics on 127.0.0.1; 0 = any free"
    )
    add_value_options(parser, Mirroring)


def _exporter(arguments: argparse.Namespace) -> int:
    if not 0 <= arguments.port <= LAST_PORT:
        raise BadValueError(f"exporter: --port {arguments.port}: want 0 (any free one) to {LAST_PORT}")
    return server.serve(
        data_dir(arguments), port=arguments.port, linger_seconds=None, mirroring=mirroring_from(Mirroring, arguments)
    )


def _dashboards_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verb", choices=("build",), help="build: write the dashboards as flat JSON files")
    parser.add_argument("directory", type=Path, metavar="DIR", help="where to write them")


def _dashboards(arguments: argparse.Namespace) -> int:
    from dashboards import build  # noqa: PLC0415 - grafanalib would cost every other command 0.15 s

    for path in build.build(arguments.directory):
        note(f"wrote {path}")
    return 0


COMMANDS = (
    Command(
        name="exporter",
        summary="Watch this data directory's runs and serve /metrics, until it is told to stop.",
        options=_exporter_options,
        action=_exporter,
    ),
    Command(
        name="dashboards",
        summary="Build the Grafana dashboards.",
        options=_dashboards_options,
        action=_dashboards,
    ),
)
