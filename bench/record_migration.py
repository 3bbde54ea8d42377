"""Record one migration's raw QMP stream, as tests/data/captures holds them: for the verdicts' cases.

    .venv/bin/python -m bench.record_migration -o FILE.jsonl.gz --bandwidth 40 --rate 34 --working-set 48 --downtime 100

A guest that dirties 70 to 95 % of what can be sent converges, slowly: these are the hard cases. `--noise SHARE` makes
its dirty rate uneven: the vCPU's thread gets the lowest priority on one CPU, where a rival runs for random stretches,
that share of the time. The source is asked for query-migrate 20 times a second; events are taken as they come.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from driver.datadir import DataDir
from driver.scenario import Scenario
from exporter.qmp import Connection
from tests.live_pair import ROLES, LivePair
from workload.cache import cache_dir
from workload.settings import Workload

POLL_SECONDS = 0.05
LONGEST_SECONDS = 45.0
STRETCH_SECONDS = 0.35
SHORT = {"source": "src", "destination": "dst"}


def main() -> int:
    """Record, and say how it ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--qemu", type=Path, default=Path(shutil.which("qemu-system-x86_64") or "qemu-system-x86_64"))
    parser.add_argument("--bandwidth", type=int, default=40, help="MiB/s")
    parser.add_argument("--rate", type=int, default=34, help="MiB/s that the guest dirties, 0 for all it can")
    parser.add_argument("--working-set", type=int, default=48, help="MiB")
    parser.add_argument("--downtime", type=int, default=100, help="limit in ms")
    parser.add_argument("--noise", type=float, default=0.0, help="share of the time in which the vCPU is held off")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mr-") as folder:
        lines = asyncio.run(_record(arguments, Path(folder)))
    with gzip.open(arguments.output, "wt", compresslevel=9) as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    last = next(line["data"] for line in reversed(lines) if line["kind"] == "query-migrate")
    print(
        f"{arguments.output.name}: {last['status']}, {last.get('total-time')} ms, {arguments.output.stat().st_size} B"
    )
    return 0


async def _record(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    pair = LivePair(
        DataDir.open(folder / "data"), arguments.qemu, cache_dir(), folder,
        Scenario(bandwidth_mib_s=arguments.bandwidth, downtime_limit_ms=arguments.downtime),
        Workload(working_set_mib=arguments.working_set, granularity_mib=1, rate_limit_mib_s=arguments.rate),
    )  # fmt: skip
    lines: list[dict[str, Any]] = []

    def take(vm: str, kind: str, data: Any) -> None:
        lines.append({"t_mono": time.monotonic(), "t_wall": time.time(), "kind": kind, "vm": vm, "data": data})

    with pair:
        await asyncio.to_thread(pair.boot)
        await asyncio.sleep(0.5)
        monitors = [
            await Connection.open(str(folder / f"{role}-poller"), partial(take, SHORT[role], "event"), 5)
            for role in ROLES
        ]
        source = monitors[0]
        take("src", "parameters", await source.execute("query-migrate-parameters"))
        with _held_off(pair.processes["source"].pid, arguments.noise):
            pair.migrate()
            end = time.monotonic() + LONGEST_SECONDS
            while time.monotonic() < end:
                take("src", "query-migrate", reply := await source.execute("query-migrate"))
                if reply.get("status") in ("completed", "failed"):
                    break
                await asyncio.sleep(POLL_SECONDS)
        for monitor in monitors:
            monitor.close()
    return lines


@contextlib.contextmanager
def _held_off(pid: int, share: float) -> Iterator[None]:
    """Let a rival take the vCPU's CPU for random stretches that add up to a share of the time."""
    if not share:
        yield
        return
    [vcpu] = [int(path.parent.name) for path in Path(f"/proc/{pid}/task").glob("*/comm")
              if re.match(r"CPU 0/", path.read_text())]  # fmt: skip
    os.sched_setaffinity(vcpu, {0})
    os.sched_setscheduler(vcpu, os.SCHED_IDLE, os.sched_param(0))
    rival = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    os.sched_setaffinity(rival.pid, {0})
    controller = subprocess.Popen([sys.executable, "-c", _CONTROLLER, str(rival.pid), str(share), str(STRETCH_SECONDS)])
    try:
        yield
    finally:
        controller.kill()
        rival.send_signal(signal.SIGKILL)
        controller.wait()
        rival.wait()


_CONTROLLER = f"""
import os, random, signal, sys, time
pid, share, stretch = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
rng = random.Random({random.Random(7).randrange(1 << 30)})
while True:
    os.kill(pid, signal.SIGCONT)
    time.sleep(rng.expovariate(1 / stretch) * share * 2)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(rng.expovariate(1 / stretch) * (1 - share) * 2)
"""

if __name__ == "__main__":
    sys.exit(main())
