"""Not one sample may be lost: twenty played runs and their mirror under every fault, and a disk that is full for 10 s.

    .venv/bin/python -m bench.mirror_faults [--runs 20]

InfluxDB is stopped for the middle third of the runs, killed twice, and answers 503 for a minute; the exporter is killed
five times. Then a run on a small file system of its own, full for ten seconds. Exit status 1 where a sample is missing.
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
from tests.mirror_faults import Fleet, Told, campaign
from workload.cache import cache_dir

SECONDS = 3.0
FULL_SECONDS = 10
REFUSING_SECONDS = 60.0


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


def main() -> int:
    """Play both, print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    os.environ[LINGER_VARIABLE] = "0"
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
    return 1 if told.missing or told.surplus or told.lost_lines or full["missing"] or full["lost_lines"] else 0


if __name__ == "__main__":
    sys.exit(main())
