"""`migrascope import`: results of other tools brought into the history."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporter.guestperf_import import import_report
from migrascope.command import Command
from migrascope.options import add_common_options, data_dir, note
from migrascope.output import print_json, print_lines
from workload.errors import MigrascopeError


def _options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    parser.add_argument("tool", choices=("guestperf",), help="guestperf: JSON reports of QEMU's guestperf")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="the reports")


def _import(arguments: argparse.Namespace) -> int:
    data = data_dir(arguments)
    done: list[dict[str, object]] = []
    failed = False
    for path in arguments.files:
        try:
            run, notes, fresh = import_report(data, path)
        except MigrascopeError as error:
            note(f"migrascope: {error}")
            failed = True
            continue
        for line in notes:
            note(f"migrascope: {path}: {line}")
        done.append({"file": str(path), "run": run.run, "new": fresh})
        if not arguments.json:
            print_lines([f"{path}: run {run.run}{'' if fresh else ' (was there already)'}"])
    if arguments.json:
        print_json(done)
    return 1 if failed else 0


COMMANDS = (
    Command(name="import", summary="Bring results of other tools into the history.", options=_options, action=_import),
)
