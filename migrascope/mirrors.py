"""`migrascope mirror`: how InfluxDB and remote write keep up, sending again, setting a bucket up."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Self

from dashboards.tables import mirrors_table
from dashboards.units import counted
from driver.datadir import DataDir, RunDir
from driver.watch import Mirroring, find_exporter
from exporter import history
from exporter.mirror import process
from exporter.mirror.destination import destinations_of
from exporter.mirror.spool import MIB, Spool, forget_dead_exporters, spools
from exporter.mirror.status import Standing, standing, standings
from migrascope.command import Command
from migrascope.options import Parser, add_common_options, add_value_options, data_dir, mirroring_from, note
from migrascope.output import print_json, print_table
from workload.errors import BadValueError, BrokenError

WAIT_SECONDS = 60.0
LOOK_SECONDS = 0.2
RETENTION_DAYS = 90
MOST_DAYS = 36_500

Action = Callable[[argparse.Namespace], int]


def _mirror_options(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, parser_class=Parser)

    def verb(name: str, summary: str, action: Action) -> Parser:
        child: Parser = verbs.add_parser(name, help=summary, description=summary)
        child.set_defaults(verb=action)
        add_common_options(child)
        return child

    verb("status", "Show how every mirror stands.", _status)
    replay = verb("replay", "Send runs again, from their start.", _replay)
    add_runs(replay)
    flush = verb("flush", "Send what still waits.", _flush)
    retry = verb("retry-dead-letters", "Send rows again that were refused.", _retry)
    for child in (replay, flush, retry):
        child.add_argument("--mirror", metavar="NAME", help="only this one (`mirror status` lists them; default: all)")
        add_wait(child)
    setup = verb("setup", "Make an InfluxDB's bucket, or set how long it keeps what it holds.", _setup)
    setup.add_argument(
        "--retention-days", type=int, default=RETENTION_DAYS, metavar="DAYS",
        help="how long samples are kept; 0 = for ever (default %(default)s)",
    )  # fmt: skip
    add_value_options(setup, Mirroring, only=("influx",))


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Add the runs that are meant, by name."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs' ids or unique parts of them, latest, latest~N")


def add_wait(parser: argparse.ArgumentParser) -> None:
    """Add the option how long to wait until all has been sent."""
    parser.add_argument(
        "--wait", type=float, default=WAIT_SECONDS, metavar="SECONDS",
        help="give up waiting after so long; what is left stays spooled (default %(default)g)",
    )  # fmt: skip


def _mirror(arguments: argparse.Namespace) -> int:
    action: Action = arguments.verb
    return action(arguments)


def _status(arguments: argparse.Namespace) -> int:
    data = data_dir(arguments)
    found = standings(data)
    if not found and not arguments.json:
        note(f"no mirrors in {data.spool}; `--influx-url` or `--remote-write` of a run or an exporter makes one")
    else:
        _show(arguments, found)
    return 0


def _replay(arguments: argparse.Namespace) -> int:
    data = data_dir(arguments)
    chosen = _chosen(data, arguments)
    return send(arguments, data, chosen, [data.find_run(word) for word in arguments.runs])


def _flush(arguments: argparse.Namespace) -> int:
    data = data_dir(arguments)
    return send(arguments, data, _chosen(data, arguments), [])


def _retry(arguments: argparse.Namespace) -> int:
    data = data_dir(arguments)
    chosen = _chosen(data, arguments)
    from exporter.mirror import again  # noqa: PLC0415 - Arrow would cost every other command 0.3 s

    for spool in chosen:
        note(f"{spool.destination.name}: {again.retry_dead_letters(spool)} dead letters to send again")
    return send(arguments, data, chosen, [])


def _setup(arguments: argparse.Namespace) -> int:
    if not 0 <= arguments.retention_days <= MOST_DAYS:
        raise BadValueError(
            f"mirror setup: --retention-days {arguments.retention_days}: want 0 (for ever) to {MOST_DAYS}"
        )
    found = destinations_of(mirroring_from(Mirroring, arguments))
    if not found:
        raise BadValueError("mirror setup: want an InfluxDB, --influx-url URL")
    from exporter.mirror import bucket  # noqa: PLC0415 - InfluxDB's client takes half a second

    note(bucket.set_up(found[0], arguments.retention_days))
    return 0


def _chosen(data: DataDir, arguments: argparse.Namespace) -> list[Spool]:
    found = spools(data)
    names = [spool.destination.name for spool in found]
    if arguments.mirror is not None and arguments.mirror not in names:
        raise BadValueError(
            f"mirror {arguments.mirror!r}: is not known; want one of {', '.join(names) or '(none yet)'}"
        )
    return [spool for spool in found if arguments.mirror in (None, spool.destination.name)]


def send(arguments: argparse.Namespace, data: DataDir, chosen: Sequence[Spool], runs: Sequence[RunDir]) -> int:
    """Spool runs, wait until all that waits in these spools has gone, and tell how they stand; the exit status.

    Raises:
        BadValueError: there is no spool.
        BrokenError: some still waits when the time is up.
    """
    if not chosen:
        raise BadValueError(f"no mirrors in {data.spool}; `--influx-url` or `--remote-write` of a run makes one")
    from exporter.mirror import again  # noqa: PLC0415 - Arrow would cost every other command 0.3 s

    before = sum(spool.checkpoint().dead_letters for spool in chosen)
    with _Sender(data) as sender:
        for run in runs:
            for spool in chosen:
                again.spool_again(spool, run)
            if any(_half_full(spool) for spool in chosen):  # what was asked for is not to be dropped
                _wait(chosen, arguments.wait, sender)
        _wait(chosen, arguments.wait, sender)
    found = [standing(spool) for spool in chosen]
    _show(arguments, found)
    refused = sum(mirror.dead_letters for mirror in found) - before
    if refused:
        note(f"{refused} rows were refused; the reasons stand in " + ", ".join(str(s.dead_letters) for s in chosen))
    return 1 if refused else 0


class _Sender:
    """Becomes the mirror process of a data directory from the moment in which no exporter serves it."""

    def __init__(self, data: DataDir) -> None:
        self._data = data
        self._stop = threading.Event()
        self._worker: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.look()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._worker:
            self._worker.join(process.JOIN_SECONDS + 1)

    def look(self) -> None:
        """See whether the exporter is still there; it may end for want of runs while something waits to be sent."""
        if self._worker is None and find_exporter(self._data) is None:
            forget_dead_exporters(self._data)
            history.runs(self._data)  # closes runs whose driver died: nobody else would end them
            self._worker = threading.Thread(target=self._become, daemon=True)
            self._worker.start()

    def _become(self) -> None:
        with process.only_one(self._data, self._stop):
            process.mirror(self._data, self._stop)


def _wait(chosen: Sequence[Spool], seconds: float, sender: _Sender) -> None:
    deadline = time.monotonic() + seconds
    while waiting := [found for spool in chosen if _unsent(spool, found := standing(spool))]:
        if time.monotonic() >= deadline:
            first = waiting[0]
            raise BrokenError(
                f"mirror {first.mirror}: {counted(first.waiting_runs, 'run')} still waiting after {seconds:g} s"
                f" ({first.trouble or 'it is slow'}); they stay spooled, and `migrascope mirror flush` goes on"
            )
        sender.look()
        time.sleep(LOOK_SECONDS)


def _half_full(spool: Spool) -> bool:
    return spool.waiting_bytes(spool.checkpoint()) > spool.destination.spool_mib * MIB // 2


def _unsent(spool: Spool, found: Standing) -> bool:
    """Whether anything is left to send but what live runs are yet to write."""
    ended = any(not run.live.exists() for run in spool.runs())
    return bool(found.waiting_bytes or ended or spool.retried_letters.exists())


def _show(arguments: argparse.Namespace, found: Sequence[Standing]) -> None:
    if arguments.json:
        print_json([asdict(mirror) for mirror in found])
    else:
        print_table(mirrors_table(found))


COMMANDS = (
    Command(
        name="mirror",
        summary="Show how InfluxDB and remote write keep up, send again, set a bucket up.",
        options=_mirror_options,
        action=_mirror,
    ),
)
