"""`migrascope history`: verify, prune, compact, rebuild the index, export."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from dashboards.units import counted
from driver.datadir import DataDir
from migrascope.command import Command
from migrascope.options import Parser, add_common_options, data_dir, note
from migrascope.output import print_json, print_lines
from migrascope.selection import add_selection_options, selection_from

MIB = 1 << 20


def _options(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, parser_class=Parser)
    for name, (summary, options, verb) in _VERBS.items():
        child = verbs.add_parser(name, help=summary, description=summary)
        add_common_options(child)
        options(child)
        child.set_defaults(verb=verb)


def _history(arguments: argparse.Namespace) -> int:
    return int(arguments.verb(data_dir(arguments), arguments))


def _verify(data: DataDir, arguments: argparse.Namespace) -> int:
    from exporter import upkeep  # noqa: PLC0415 - Arrow would cost every other command 0.3 s

    found = upkeep.verify(data, selection_from(arguments, data))
    faults = {run: lines for run, lines in found.items() if lines}
    if arguments.json:
        print_json({"runs": len(found), "faults": faults})
    else:
        print_lines(f"run {run}: {line}" for run, lines in faults.items() for line in lines)
    note(f"history: {counted(len(found), 'run')} read, {len(faults)} with faults")
    return 1 if faults else 0


def _prune_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples-only", action="store_true", help="keep records, summaries and the list of runs")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    add_selection_options(parser)


def _prune(data: DataDir, arguments: argparse.Namespace) -> int:
    from exporter import upkeep  # noqa: PLC0415

    done = upkeep.prune(
        data, selection_from(arguments, data), samples_only=arguments.samples_only, dry=arguments.dry_run
    )
    gone = [one for one in done if one.kept is None]
    if arguments.json:
        print_json([asdict(one) for one in done])
    else:
        print_lines(
            f"run {one.run}: kept: {one.kept}" if one.kept else f"run {one.run}: {one.freed_bytes / MIB:.2f} MiB"
            for one in done
        )
    freed = sum(one.freed_bytes for one in gone) / MIB
    note(f"history: {counted(len(gone), 'run')}, {freed:.1f} MiB {'would go' if arguments.dry_run else 'are gone'}")
    return 0


def _compact(data: DataDir, arguments: argparse.Namespace) -> int:
    from exporter import upkeep  # noqa: PLC0415

    done = upkeep.compact(data)
    if arguments.json:
        print_json(asdict(done))
    else:
        print_lines(done.waiting)
    note(
        f"history: {counted(done.stored, 'run')} stored, {len(done.waiting)} wait;"
        f" {done.bytes_before / MIB:.1f} MiB became {done.bytes_after / MIB:.1f}"
    )
    return 0


def _rebuild(data: DataDir, arguments: argparse.Namespace) -> int:
    from exporter import upkeep  # noqa: PLC0415

    rows = upkeep.rebuild_index(data)
    damaged = [f"run {row.run}: {row.reason}" for row in rows if row.outcome == "damaged"]
    if arguments.json:
        print_json({"runs": len(rows), "damaged": damaged})
    else:
        print_lines(damaged)
    note(f"history: {counted(len(rows), 'run')} in the index, {len(damaged)} damaged")
    return 0


def _export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("format", choices=("csv", "parquet", "json"), help="json: one object a line")
    parser.add_argument("views", nargs="*", metavar="VIEW", help="as `migrascope query` lists them (default: all)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="where to write the files")
    add_selection_options(parser)


def _export(data: DataDir, arguments: argparse.Namespace) -> int:
    from exporter.extract import extract  # noqa: PLC0415 - DuckDB would cost every other command 0.1 s

    written, warnings = extract(
        data, arguments.format, arguments.views, arguments.output, selection_from(arguments, data)
    )
    for line in warnings:
        note(f"migrascope: {line}")
    if arguments.json:
        print_json({str(path): rows for path, rows in written.items()})
    else:
        print_lines(f"{path}: {counted(rows, 'row')}" for path, rows in written.items())
    return 0


def _none(parser: argparse.ArgumentParser) -> None:
    """A verb without options of its own."""


_VERBS = {
    "verify": ("Read everything, and tell what is damaged; exit status 1 if anything is.",
               add_selection_options, _verify),
    "prune": ("Remove runs, or their samples only.", _prune_options, _prune),
    "compact": ("Close and store what dead drivers and exporters have left.", _none, _compact),
    "rebuild-index": ("Make the list of runs anew from the runs.", _none, _rebuild),
    "export": ("Write views to files for other programs.", _export_options, _export),
}  # fmt: skip

COMMANDS = (
    Command(
        name="history",
        summary="Keep the history well: verify, prune, compact, rebuild-index, export.",
        options=_options,
        action=_history,
    ),
)
