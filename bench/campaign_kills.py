"""A campaign whose driver is killed with -9 at random moments: is every run there once, is anything left behind?

    .venv/bin/python -m bench.campaign_kills DIR [--runs 60] [--kills 10] [--seconds 150] [--seed 1]

Starts `migrascope campaign run` on tiny guests with a warm start, kills its process at a random moment, looks for what
is left of it, and starts it again, until all kills were made and the campaign has ended. It stops after `--seconds` and
goes on where it was when it is called again with the same DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from driver.campaign_events import Begun, Ended, read_events
from driver.campaign_state import read_state
from driver.datadir import CampaignDir, DataDir
from driver.record import read_record

GONE_SECONDS = 20.0
RUN_SECONDS = 4.0

PLAN = """\
name = "kills"
repeats = {repeats}
order = "interleaved"
warm_start = true

[scenario]
bandwidth_mib_s = 64
downtime_limit_ms = 1000
max_time_seconds = 5

[hardware]
memory_mib = 128
accelerator = "tcg"

[workload]
working_set_mib = 16
granularity_mib = 4

[grid]
strategy = ["none", "post-copy"]
"""


def start(plan: Path, data: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the campaign as a person would."""
    command = [sys.executable, "-m", "migrascope.main", "campaign", "run", str(plan), "--data-dir", str(data), "--json"]
    with log.open("ab") as output:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=output)


def orphans(data: Path) -> list[str]:
    """Processes that work on a data directory: campaigns, runs, QEMUs; an exporter may linger and is none of them."""
    found = []
    for process in psutil.process_iter(["cmdline", "pid", "status"]):
        words = " ".join(process.info["cmdline"] or ())
        if str(data) in words and "exporter.server" not in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(f"{process.info['pid']} {words[:100]}")
    return [line for line in found if not line.startswith(f"{os.getpid()} ")]


def kill(campaign: subprocess.Popen[bytes], data: Path) -> list[str]:
    """Kill a campaign's driver with -9; returns what is still there of it when its time is over."""
    campaign.kill()
    campaign.wait()
    deadline = time.monotonic() + GONE_SECONDS
    while (left := orphans(data)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def faults(place: CampaignDir, data: DataDir, runs: int) -> list[str]:
    """What is wrong with a campaign that has ended: a result missing or made twice, a finished run that was lost."""
    found = []
    events = read_events(place)
    results = [event for event in events if isinstance(event, Ended)]
    if len(results) != runs:
        found.append(f"{len(results)} results, wanted {runs}")
    twice = [slot for slot, count in Counter((one.cell, one.repeat) for one in results).items() if count > 1]
    found += [f"slot {slot} has two results" for slot in twice]
    counted = {result.run for result in results}
    for begun in (event for event in events if isinstance(event, Begun)):
        record = data.run(begun.run)
        finished = record.record.exists() and read_record(record).outcome not in (None, "abandoned", "cancelled")
        if finished is not (begun.run in counted):
            found.append(f"run {begun.run}: finished is {finished}, counted is {begun.run in counted}")
    state = read_state(place)
    if state.slots_left or not state.stopped or not state.stopped.finished:
        found.append(f"{len(state.slots_left)} runs are left")
    return found


def main() -> int:
    """Kill, resume, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder: Path = arguments.directory
    folder.mkdir(parents=True, exist_ok=True)
    plan, notes = folder / "kills.toml", folder / "notes.json"
    plan.write_text(PLAN.format(repeats=arguments.runs // 2))
    told: dict[str, Any] = json.loads(notes.read_text()) if notes.exists() else {"kills": 0, "left": [], "seconds": 0.0}
    chance = random.Random(f"{arguments.seed} {told['kills']}")
    ends = time.monotonic() + arguments.seconds
    while True:
        began = time.monotonic()
        campaign = start(plan, folder / "data", folder / "log")
        more = told["kills"] < arguments.kills
        wait = chance.uniform(0.5, 2 * RUN_SECONDS * arguments.runs / (arguments.kills + 1)) if more else float("inf")
        try:
            campaign.wait(min(wait, max(1.0, ends - began)))
        except subprocess.TimeoutExpired:
            stopped = time.monotonic() >= ends
            if not stopped:
                told["kills"] += 1
                told["left"] += kill(campaign, folder / "data")
            else:
                campaign.terminate()
                campaign.wait()
        told["seconds"] += time.monotonic() - began
        notes.write_text(json.dumps(told))
        if time.monotonic() >= ends:
            print(f"{told['kills']} kills so far; the same command goes on")
            return 2
        if campaign.returncode == 0:
            break
    data = DataDir.open(folder / "data")
    place = data.find_campaign("latest")
    wrong = faults(place, data, arguments.runs)
    cut = len(data.all_runs()) - arguments.runs
    print(f"{arguments.runs} runs, {told['kills']} kills with -9, {told['seconds']:.0f} s")
    print(f"results {read_state(place).ended_runs}, runs cut and made again {cut}, orphans {len(told['left'])}")
    print("wrong: " + ("; ".join(wrong) or "nothing"))
    return 1 if wrong or told["left"] else 0


if __name__ == "__main__":
    sys.exit(main())
