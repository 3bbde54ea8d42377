"""Commands on what has been recorded: runs, show, query, report."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from dashboards.query_table import query_table
from dashboards.tables import run_tables, runs_table
from dashboards.verdict_table import verdict_table
from driver.record import read_record
from exporter import history
from exporter.judged import judged_again
from migrascope.command import Command
from migrascope.options import add_common_options, data_dir, note
from migrascope.output import print_csv, print_json, print_table
from migrascope.selection import add_selection_options, selection_from
from workload.errors import BadValueError

MOST_WARNINGS = 10


def _runs_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    add_selection_options(parser)


def _runs(arguments: argparse.Namespace) -> int:
    data = data_dir(arguments)
    every = history.runs(data)
    rows = selection_from(arguments, data).of(every)
    if arguments.json:
        print_json([row.to_json() for row in rows])
    elif rows:
        print_table(runs_table(rows))
    elif every:
        note(f"none of the {len(every)} runs in {data.runs} is meant")
    else:
        note(f"no runs in {data.runs}; `migrascope compare demo` makes some")
    return 0


def _show_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    parser.add_argument(
        "--verdicts", action="store_true", help="judge the run again by today's rules, and show every boundary"
    )
    parser.add_argument("run", metavar="RUN", help="a run's id or a unique part of it, latest, or latest~N")


def _show(arguments: argparse.Namespace) -> int:
    data = data_dir(arguments)
    run = data.find_run(arguments.run)
    record, summary = read_record(run), history.summary(run)
    verdicts = judged_again(run, record) if arguments.verdicts else []
    if arguments.json:
        told = {"verdicts": [{"time_ns": each.time_ns, **each.fields} for each in verdicts]} if verdicts else {}
        print_json({"record": asdict(record), "summary": None if summary is None else asdict(summary), **told})
    else:
        for table in run_tables(record, summary):
            print_table(table)
        if arguments.verdicts:
            print_table(verdict_table(verdicts))
        note(f"record: {run.path}")
    return 0


def _query_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    parser.add_argument("--csv", action="store_true", help="print CSV on stdout")
    parser.add_argument(
        "sql", nargs="?", metavar="SQL", help="a view's name, or DuckDB SQL over the views; without it they are listed"
    )
    add_selection_options(parser)


def _query(arguments: argparse.Namespace) -> int:
    from exporter import query  # noqa: PLC0415 - DuckDB would cost every other command 0.1 s

    if arguments.json and arguments.csv:
        raise BadValueError("query: want --json or --csv, not both")
    data = data_dir(arguments)
    if arguments.sql is None:
        result = query.views(data)
    else:
        result = query.execute(data, arguments.sql, selection_from(arguments, data))
    for warning in result.warnings[:MOST_WARNINGS]:
        note(f"migrascope: {warning}")
    if (more := len(result.warnings) - MOST_WARNINGS) > 0:
        note(f"migrascope: and {more} more; `migrascope history verify` names all")
    if arguments.json:
        print_json([dict(zip(result.columns, row, strict=True)) for row in result.rows])
    elif arguments.csv:
        print_csv(result.columns, result.rows)
    else:
        print_table(query_table(result.columns, result.rows))
    return 0


def _report_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser, json=False)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs' ids or unique parts of them, latest, latest~N")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the HTML file to write")


def _report(arguments: argparse.Namespace) -> int:
    from dashboards import report  # noqa: PLC0415 - Plotly would cost every other command 0.2 s

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
