"""The mirror process: one a data directory, a thread for each destination that has something to be sent.

It is a process of its own so that building requests never delays the exporter's samples, and a hanging client never
holds up its end. The exporter starts it; commands become it themselves where no exporter serves.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from driver.datadir import DataDir
from exporter.mirror.destination import Destination
from exporter.mirror.feed import Feed, has_work
from exporter.mirror.spool import Spool, spools
from workload.errors import MigrascopeError

LOOK_SECONDS = 0.25
JOIN_SECONDS = 3.0
"""How long a request under way may take once the end was asked for; what it carried is sent again then."""

RESTART_SECONDS = 2.0
_ENDING = frozenset({signal.SIGTERM, signal.SIGINT})
_PARENT_DEATH_SIGNAL = 1

log = logging.getLogger(__name__)


def main() -> int:
    """`python -m exporter.mirror.process`: what the exporter starts; it ends with the exporter, however that ends."""
    parser = argparse.ArgumentParser(prog="exporter.mirror.process", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--exporter", type=int, required=True, metavar="PID", help="the exporter that this serves")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="mirror: %(levelname)s: %(message)s", stream=sys.stderr)
    stop = threading.Event()
    # no handler: one that sets an event hangs for ever where the signal finds this thread inside the event's own lock
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    threading.Thread(target=_stop_when_told, args=(stop,), daemon=True).start()
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != arguments.exporter:  # it died before we asked to be told
        return 0
    data = DataDir.open(arguments.data_dir)
    with only_one(data, stop):
        mirror(data, stop)
    return 0


def _stop_when_told(stop: threading.Event) -> None:
    signal.sigwait(_ENDING)
    stop.set()


@contextlib.contextmanager
def only_one(data: DataDir, stop: threading.Event) -> Iterator[None]:
    """Wait until no other mirror process is there, or `stop`, and be the one."""
    data.spool.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(data.spool / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not stop.is_set():
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            stop.wait(LOOK_SECONDS)
        yield
    finally:
        os.close(handle)


def mirror(data: DataDir, stop: threading.Event) -> None:
    """Serve every spool until `stop`."""
    threads: dict[str, _Thread] = {}
    while not stop.is_set():
        for spool in spools(data):
            _serve(data, spool, threads)
        stop.wait(LOOK_SECONDS)
    for thread in threads.values():
        thread.stop.set()
    deadline = time.monotonic() + JOIN_SECONDS
    for thread in threads.values():
        thread.worker.join(max(deadline - time.monotonic(), 0.0))


@dataclass(frozen=True, kw_only=True)
class _Thread:
    destination: Destination
    stop: threading.Event
    worker: threading.Thread
    began: float


def _serve(data: DataDir, spool: Spool, threads: dict[str, _Thread]) -> None:
    """See that a spool with work has its thread, and that one with an older token or bound makes room."""
    name = spool.destination.name
    known = threads.get(name)
    if known and known.worker.is_alive():
        if known.destination != spool.destination:
            known.stop.set()
        return
    if not has_work(spool) or (known and time.monotonic() < known.began + RESTART_SECONDS):
        return
    stop = threading.Event()
    worker = threading.Thread(target=_feed, args=(data, spool, stop), name=name, daemon=True)
    threads[name] = _Thread(destination=spool.destination, stop=stop, worker=worker, began=time.monotonic())
    worker.start()


def _feed(data: DataDir, spool: Spool, stop: threading.Event) -> None:
    """The boundary around one destination: what its feed raises is logged, and it is begun again."""
    try:
        Feed(data, spool, stop).run()
    except MigrascopeError as error:
        log.warning("mirror %s: %s; trying again", spool.destination.name, error)
    except Exception:
        log.exception("mirror %s: failed; trying again", spool.destination.name)


if __name__ == "__main__":
    sys.exit(main())
