"""What a run costs beyond QEMU's own migration time: cold (boot, settle) and warm (restored from a saved guest).

    .venv/bin/python -m bench.run_overhead [--runs 5]

Wall time of `migrascope run` as a person sees it, minus total-time of QEMU's last reply. guestperf spends 28.5 s
(measured on this kind of machine, QEMU 7.2 and 10.0 under TCG, 1 GiB guest).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from bench.repeat import CASES, run

GUESTPERF_SECONDS = 28.5


def main() -> None:
    """Measure both ways and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-overhead-") as scratch:
        data = Path(scratch)
        run(data, *CASES["pre-copy"], "--warm-start")  # saves the image; starts the exporter that lingers
        for name, more in (("cold", ()), ("warm", ("--warm-start",))):
            beyond = []
            for _ in range(arguments.runs):
                start = time.monotonic()
                row = run(data, *CASES["pre-copy"], *more)
                beyond.append(time.monotonic() - start - row["total_seconds"])
            middle = statistics.median(beyond)
            print(
                f"{name}: median {middle:.2f} s, worst {max(beyond):.2f} s beyond QEMU's migration time;"
                f" guestperf {GUESTPERF_SECONDS} s, {GUESTPERF_SECONDS / middle:.1f} times as much"
            )


if __name__ == "__main__":
    main()
