"""The options that narrow a command down to some runs of the history."""

from __future__ import annotations

import argparse
import time

from driver.datadir import DataDir
from exporter.selection import Selection, moment_ns


def add_selection_options(parser: argparse.ArgumentParser) -> None:
    """Add the options; without any of them all runs are meant."""
    group = parser.add_argument_group("which runs (default: all)")
    group.add_argument(
        "--run", action="append", default=[], metavar="RUN",
        help="this run: its id or a unique part of it, latest, or latest~N; may be given several times",
    )  # fmt: skip
    group.add_argument("--campaign", metavar="ID", help="runs of this campaign; * and ? stand for anything")
    group.add_argument("--scenario", metavar="NAME", help="runs of this scenario; * and ? stand for anything")
    group.add_argument("--strategy", metavar="NAME", help="runs of this strategy; * and ? stand for anything")
    group.add_argument(
        "--since", metavar="TIME", help="started at or after it: an age such as 24h or 7d, or ISO 8601 (UTC)"
    )
    group.add_argument("--until", metavar="TIME", help="started before it")


def selection_from(arguments: argparse.Namespace, data: DataDir) -> Selection:
    """The runs that the options mean.

    Raises:
        BadValueError: a run is not there, or a time cannot be read.
    """
    now_ns = time.time_ns()
    return Selection(
        runs=frozenset(data.find_run(word).run for word in arguments.run),
        campaign=arguments.campaign,
        scenario=arguments.scenario,
        strategy=arguments.strategy,
        since_ns=None if arguments.since is None else moment_ns(arguments.since, now_ns),
        until_ns=None if arguments.until is None else moment_ns(arguments.until, now_ns),
    )
