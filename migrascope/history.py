"""Commands on what has been recorded: runs, show, query, report."""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import asdict
from pathlib import Path

from dashboards import report
from dashboards.tables import query_table, run_tables, runs_table
from driver.record import read_record
from exporter import history, query
from migrascope.command import Command
from migrascope.options import add_common_options, data_dir, note
from migrascope.output import print_json, print_table


def _runs_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)


def _runs(arguments: argparse.Namespace) -> int:
    data = data_dir(arguments)
    rows = history.runs(data)
    if arguments.json:
        print_json([row.to_json() for row in rows])
    elif rows:
        print_table(runs_table(rows))
    else:
        note(f"no runs in {data.runs}; `migrascope compare demo` makes some")
    return 0


def _show_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    parser.add_argument("run", metavar="RUN", help="a run's id or a unique part of it, latest, or latest~N")


def _show(arguments: argparse.Namespace) -> int:
    data = data_dir(arguments)
    run = data.find_run(arguments.run)
    record, summary = read_record(run), history.summary(run)
    if arguments.json:
        print_json({"record": asdict(record), "summary": None if summary is None else asdict(summary)})
    else:
        for table in run_tables(record, summary):
            print_table(table)
        note(f"record: {run.path}")
    return 0


def _query_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    parser.add_argument("--csv", action="store_true", help="print CSV on stdout")
    parser.add_argument(
        "sql", metavar="SQL", help="DuckDB SQL over the views runs, guest_xor, guest_tick, qemu_cpu, qemu_memory, "
        "migration, event, verdict"
    )  # fmt: skip


def _query(arguments: argparse.Namespace) -> int:
    result = query.execute(data_dir(arguments), arguments.sql)
    for warning in result.warnings:
        note(f"migrascope: {warning}")
    if arguments.json:
        print_json([dict(zip(result.columns, row, strict=True)) for row in result.rows])
    elif arguments.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(result.columns)
        writer.writerows(result.rows)
    else:
        print_table(query_table(result.columns, result.rows))
    return 0


def _report_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser, json=False)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs' ids or unique parts of them, latest, latest~N")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the HTML file to write")


def _report(arguments: argparse.Namespace) -> int:
    data = data_dir(arguments)
    report.write(data, [data.find_run(word) for word in arguments.runs], arguments.output)
    note(f"report: {arguments.output}")
    return 0


COMMANDS = (
    Command(name="runs", summary="List all runs, oldest first.", options=_runs_options, action=_runs),
    Command(name="show", summary="Show one run's record and figures.", options=_show_options, action=_show),
    Command(name="query", summary="Ask the history of all runs in SQL.", options=_query_options, action=_query),
    Command(
        name="report",
        summary="Write one self-contained HTML file on one or several runs.",
        options=_report_options,
        action=_report,
    ),
)
