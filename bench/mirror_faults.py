"""Not one sample may be lost: runs and their mirror under every fault, and a disk that is full for 10 s.

    .venv/bin/python -m bench.mirror_faults [--runs 20]
    .venv/bin/python -m bench.mirror_faults --real 6

Played runs: InfluxDB is stopped for the middle third of the runs, killed twice, and answers 503 for a minute; the
exporter is killed five times. Then a run on a small file system of its own, full for ten seconds. With --real as many
migrations of real QEMUs, warm: InfluxDB is stopped for the middle third, killed once, and answers 503 for two seconds;
the exporter is killed twice. Exit status 1 where a sample or a line is missing or
there twice, or a gap in the polls is not told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from exporter.start import LINGER_VARIABLE
from tests.mirror_faults import Fleet, Told, campaign, real_campaign
from workload.cache import cache_dir

SECONDS = 3.0
FULL_SECONDS = 10
REFUSING_SECONDS = 60.0
REAL_SECONDS = 4
REAL_REFUSING_SECONDS = 2.0
LEAST_REAL = 6
EXPORTER_KILLS = 2


async def under_faults(folder: Path, runs: int) -> Told:
    """Play the campaign."""
    with Fleet(cache_dir() / "bin" / "influxd", folder) as fleet:
        return await campaign(
            fleet,
            runs=runs,
            seconds=SECONDS,
            away=range(runs // 3, runs * 2 // 3),
            killed={1, runs - 2},
            refusing={runs - 1: REFUSING_SECONDS},
            exporter_killed={0, runs // 4, runs // 2, runs * 3 // 4, runs - 1},
        )


async def real_under_faults(folder: Path, runs: int) -> Told:
    """Migrate real QEMUs; the exporter is killed in the first run and in one while InfluxDB is away."""
    away = range(runs // 3, runs * 2 // 3)
    with Fleet(cache_dir() / "bin" / "influxd", folder) as fleet:
        return await real_campaign(
            fleet,
            runs=runs,
            seconds=REAL_SECONDS,
            away=away,
            killed={away.stop},
            refusing={runs - 1: REAL_REFUSING_SECONDS},
            exporter_killed={0, away.stop - 1},
        )


def main() -> int:
    """Play both, or migrate; print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--real", type=int, nargs="?", const=6, metavar="N", help="migrate N times instead, 6 at least")
    arguments = parser.parse_args()
    runs = arguments.runs
    os.environ[LINGER_VARIABLE] = "0"
    if arguments.real:
        return _migrate(parser, arguments.real)
    with tempfile.TemporaryDirectory(prefix="bench-faults-") as scratch:
        faults, disk = Path(scratch) / "faults", Path(scratch) / "disk"
        faults.mkdir()
        disk.mkdir()
        told = asyncio.run(under_faults(faults, runs))
        print(f"{runs} runs: {json.dumps(asdict(told))}", flush=True)
        command = ["unshare", "--map-root-user", "--mount", "--", sys.executable, "-m", "tests.full_disk"]
        done = subprocess.run([*command, str(disk), str(FULL_SECONDS)], check=True, capture_output=True, text=True)
        full = json.loads(done.stdout)
        print(f"full disk: {json.dumps(full)}")
    return 0 if told.whole and not full["missing"] and not full["lost_lines"] else 1


def _migrate(parser: argparse.ArgumentParser, runs: int) -> int:
    if runs < LEAST_REAL:
        parser.error(f"--real {runs}: want at least {LEAST_REAL}, so that every fault has a run of its own")
    with tempfile.TemporaryDirectory(prefix="bench-faults-") as scratch:
        told = asyncio.run(real_under_faults(Path(scratch), runs))
    print(f"{runs} real migrations: {json.dumps(asdict(told))}")
    return 0 if told.whole and told.gaps >= EXPORTER_KILLS else 1


if __name__ == "__main__":
    sys.exit(main())
