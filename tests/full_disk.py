"""A played run on a disk that is full for a while: `python -m tests.full_disk DIR SECONDS`, in a mount namespace.

It mounts a small file system of its own at DIR/data, which goes with the namespace, and prints what came of it as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from driver.datadir import DataDir
from driver.watch import Sampling
from exporter.mirror.status import standings
from exporter.start import LINGER_VARIABLE, start_exporter
from tests.faulty import Script, faulty_server
from tests.played import PlayedRun, stored
from tests.waiting import wait_until

SIZE = "6m"


async def main(folder: Path, seconds: float, script: Script) -> dict[str, float]:
    """Play a run; a second after its start the disk is full, for so many seconds."""
    os.environ[LINGER_VARIABLE] = "0"
    place = folder / "data"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], check=True)  # noqa: ASYNC221
    data = DataDir.open(place)
    client = await start_exporter(data)
    run = PlayedRun(data, "20261124-000000-full", folder)
    await client.attach(run.run, Sampling(influx_url=script.url))
    await asyncio.sleep(1)
    began = time.monotonic()
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        while time.monotonic() < began + seconds:
            try:
                file.write(b"x" * 4096)
            except OSError:
                await asyncio.sleep(0.05)
    filler.unlink()
    full = time.monotonic() - began
    with urllib.request.urlopen(f"http://127.0.0.1:{client.info.port}/metrics", timeout=5) as answer:  # noqa: ASYNC210
        scrape = answer.read().decode()
    errors = next(text for text in scrape.splitlines() if text.startswith("migrascope_journal_errors_total"))
    await asyncio.sleep(1)
    await asyncio.to_thread(run.end)
    await client.detach(run.run)
    await client.stored(run.run)
    run.close()
    await asyncio.to_thread(wait_until, lambda: not any(mirror.waiting_runs for mirror in standings(data)))
    os.kill(client.info.pid, signal.SIGTERM)
    await asyncio.to_thread(os.waitpid, client.info.pid, 0)
    taken = {(text.partition(",")[0], int(text.rpartition(" ")[2])) for text in script.taken_lines()}
    held = {(measurement, time_ns) for measurement, time_ns, _ in stored(run.dir)}
    return {
        "full_seconds": full, "journal_errors": float(errors.split()[-1]), "lines": run.written,
        "lost_lines": run.written - len(set(run.ticks())), "missing": len(held - taken),
    }  # fmt: skip


if __name__ == "__main__":
    with faulty_server() as found:
        print(json.dumps(asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2]), found))))
