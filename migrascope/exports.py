"""`migrascope export`: recorded runs for other tools: a receiver of remote write, Prometheus' own store, guestperf."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from dashboards.units import counted
from driver.datadir import DataDir, RunDir
from driver.watch import Mirroring
from exporter import history
from exporter.mirror.destination import destinations_of
from exporter.mirror.spool import spool_for
from migrascope.command import Command
from migrascope.mirrors import add_runs, add_wait, send
from migrascope.options import add_common_options, add_value_options, data_dir, mirroring_from, note
from migrascope.output import print_json, print_lines
from workload.errors import BadValueError

Write = Callable[[argparse.Namespace, DataDir, Sequence[RunDir]], int]


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "form", choices=tuple(_FORMS),
        help="remote-write: every sample with its exact time to a receiver; openmetrics: the same as text, from which"
        " promtool makes blocks; guestperf: a JSON report a run, as QEMU's guestperf writes and plots it",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PATH",
        help="the file that openmetrics writes, the directory for guestperf's reports",
    )  # fmt: skip
    add_runs(parser)
    add_common_options(parser)
    add_wait(parser)
    add_value_options(parser, Mirroring, only=("remote_write", "spool"))


def _export(arguments: argparse.Namespace) -> int:
    data = data_dir(arguments)
    runs = [data.find_run(word) for word in arguments.runs]
    return _FORMS[arguments.form](arguments, data, runs)


def _remote_write(arguments: argparse.Namespace, data: DataDir, runs: Sequence[RunDir]) -> int:
    found = destinations_of(mirroring_from(Mirroring, arguments))
    if not found:
        raise BadValueError("export remote-write: want a receiver, --remote-write URL")
    if arguments.output is not None:
        raise BadValueError("export remote-write: writes no file, want no -o")
    return send(arguments, data, [spool_for(data, destination) for destination in found], runs)


def _openmetrics(arguments: argparse.Namespace, data: DataDir, runs: Sequence[RunDir]) -> int:
    from exporter.openmetrics import write_openmetrics  # noqa: PLC0415 - Arrow would cost every other command 0.3 s

    output = _output(arguments, "a file to write, -o FILE")
    history.runs(data)  # stores what has ended
    values = write_openmetrics(runs, output)
    if arguments.json:
        print_json({"file": str(output), "runs": len(runs), "values": values})
    held = f"{counted(values, 'value')} of {counted(len(runs), 'run')}"
    note(f"{output}: {held}, for promtool tsdb create-blocks-from openmetrics")
    return 0


def _guestperf(arguments: argparse.Namespace, data: DataDir, runs: Sequence[RunDir]) -> int:
    from exporter.guestperf_export import write_reports  # noqa: PLC0415 - Arrow again

    output = _output(arguments, "a directory for the reports, -o DIR")
    history.runs(data)  # stores what has ended
    written = write_reports(runs, output)
    if arguments.json:
        print_json([{"file": str(each.path), "run": each.run, "left_out": each.left_out} for each in written])
    for each in written:
        if not arguments.json:
            print_lines([f"{each.path}: run {each.run}"])
        for line in each.left_out:
            note(f"migrascope: run {each.run}: left out: {line}")
    return 0


def _output(arguments: argparse.Namespace, wanted: str) -> Path:
    """Where a form writes to; a receiver beside it would get nothing, and is refused."""
    if arguments.output is None:
        raise BadValueError(f"export {arguments.form}: want {wanted}")
    if destinations_of(mirroring_from(Mirroring, arguments)):
        raise BadValueError(f"export {arguments.form}: sends nothing, want no --remote-write")
    return Path(arguments.output)


_FORMS: dict[str, Write] = {"remote-write": _remote_write, "openmetrics": _openmetrics, "guestperf": _guestperf}

COMMANDS = (
    Command(
        name="export",
        summary="Send recorded runs to a receiver of remote write, or write them as OpenMetrics text or for guestperf.",
        options=_options,
        action=_export,
    ),
)
