"""Commands that serve: the exporter, and what Grafana and Prometheus are given."""

from __future__ import annotations

import argparse
import ipaddress
from pathlib import Path

from driver.watch import Mirroring, Sampling
from exporter import server
from exporter.sinks.http import ADDRESS, Listener
from exporter.sinks.web_config import Gate
from exporter.vms import checked, parse_words
from migrascope.command import Command
from migrascope.options import (
    add_common_options,
    add_value_options,
    data_dir,
    mirroring_from,
    note,
    option_name,
    reader,
)
from workload.errors import BadValueError
from workload.value import bounds, settings_of

LAST_PORT = 65535


def _exporter_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser, json=False)
    parser.add_argument(
        "--port",
        type=int,
        default=server.DEFAULT_PORT,
        metavar="N",
        help="port of /metrics; 0 = any free (default %(default)s)",
    )
    parser.add_argument(
        "--listen", default=ADDRESS, metavar="ADDRESS", help=f"IP address of /metrics (default {ADDRESS})"
    )
    parser.add_argument(
        "--web.config.file", dest="web_config", type=Path, metavar="FILE",
        help="TLS and basic auth of /metrics, in the form of Prometheus' exporter-toolkit",
    )  # fmt: skip
    add_value_options(parser, Mirroring)
    group = parser.add_argument_group("VMs that something else runs")
    group.add_argument(
        "--attach", action="append", default=[], metavar="name=NAME,qmp=SOCKET[,pid=PID][,console=FILE]",
        help="watch this QEMU on a QMP socket of the exporter's own; two of one name are the ends of one migration",
    )  # fmt: skip
    group.add_argument(
        "--attach-file", type=Path, metavar="FILE", help="a YAML or JSON list of such QEMUs, read again when it changes"
    )
    for name in ("rest_hz", "active_hz"):
        kind, default, facts = settings_of(Sampling)[name]
        group.add_argument(
            f"--{option_name(name)}", type=reader(kind, facts), default=default, metavar="HZ",
            help=f"{facts.help} (default %(default)s; {bounds(facts)})",
        )  # fmt: skip


def _exporter(arguments: argparse.Namespace) -> int:
    if not 0 <= arguments.port <= LAST_PORT:
        raise BadValueError(f"exporter: --port {arguments.port}: want 0 (any free one) to {LAST_PORT}")
    try:
        ipaddress.ip_address(arguments.listen)
    except ValueError as error:
        raise BadValueError(f"exporter: --listen {arguments.listen}: want an IP address, such as 0.0.0.0") from error
    listener = Listener(
        address=arguments.listen, port=arguments.port, gate=Gate(arguments.web_config) if arguments.web_config else None
    )
    if listener.gate is None and not ipaddress.ip_address(arguments.listen).is_loopback:
        note(f"exporter: whoever reaches {arguments.listen} can read /metrics; --web.config.file asks for passwords")
    observing = server.Observing(
        qemus=checked(map(parse_words, arguments.attach)),
        file=arguments.attach_file,
        sampling=Sampling(rest_hz=arguments.rest_hz, active_hz=arguments.active_hz),
    )
    return server.serve(
        data_dir(arguments), listener=listener, linger_seconds=None,
        mirroring=mirroring_from(Mirroring, arguments), observing=observing,
    )  # fmt: skip


def _dashboards_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "verb",
        choices=("build", "check"),
        help="build: write the dashboards as flat JSON files; check: tell what is wrong with them, or in DIR",
    )
    parser.add_argument("directory", type=Path, nargs="?", metavar="DIR", help="where they are written")


def _dashboards(arguments: argparse.Namespace) -> int:
    from dashboards import build  # noqa: PLC0415 - grafanalib would cost every other command 0.15 s

    if arguments.verb == "check":
        if arguments.directory is not None and not arguments.directory.is_dir():
            raise BadValueError(f"dashboards check {arguments.directory}: is no directory; `build` makes one")
        found = build.faults(arguments.directory)
        for fault in found:
            note(fault)
        return 1 if found else 0
    if arguments.directory is None:
        raise BadValueError("dashboards build: want a directory to write them into")
    try:
        written = build.build(arguments.directory)
    except OSError as error:
        raise BadValueError(
            f"dashboards build {arguments.directory}: {error.strerror}; want a directory that can be written"
        ) from error
    for path in written:
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
        summary="Build the Grafana dashboards, or check them.",
        options=_dashboards_options,
        action=_dashboards,
    ),
)
