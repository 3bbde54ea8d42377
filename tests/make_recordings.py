"""Makes tests/data/recordings anew: real runs, each watched by an exporter; names or patterns of them may be given."""

from __future__ import annotations

import asyncio
import fnmatch
import json
import lzma
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import patch

from driver.datadir import DataDir
from driver.record import RunRecord
from driver.run import run_migration
from driver.scenario import Scenario
from driver.watch import Sampling
from exporter import history
from exporter.journal import Batch, Header, JournalWriter
from exporter.measurements import MEASUREMENTS
from exporter.start import LINGER_VARIABLE, start_exporter
from tests import recordings
from tests.driver_process import a_request
from workload.cache import cache_dir

LARGEST_BYTES = 300_000
HOST = "recorded"
BATCH_SAMPLES = 200
ACTIVE_HZ, LONG_HZ, LONG_SECONDS = 50.0, 20.0, 30
"""A long run is looked at less often, so that its recording stays small."""
LINGER = "3"
NEVER = Scenario(bandwidth_mib_s=32, downtime_limit_ms=100, max_time_seconds=12)
"""16 MiB at full speed take 500 ms: it never converges without help."""
SOON = replace(NEVER, bandwidth_mib_s=64, downtime_limit_ms=1000)

SCENARIOS: dict[str, Scenario] = {
    "never-converges": NEVER,
    "converges": SOON,
    "pause": replace(NEVER, pause_iterations=3),
    "post-copy": replace(NEVER, post_copy_iterations=3, post_copy_blocktime=True),
    "post-copy-probed": replace(NEVER, post_copy_iterations=3, post_copy_blocktime=True),
    "post-copy-preempt": replace(NEVER, post_copy_iterations=3, post_copy_preempt=True, transport="tcp"),
    "post-copy-recovers": replace(
        NEVER, post_copy_iterations=3, schedule="post-copy 0.1 s: cut", post_copy_recoveries=1
    ),
    "post-copy-outage": replace(
        NEVER, post_copy_iterations=3, schedule="post-copy 0.03 s: cut", post_copy_recoveries=3,
        post_copy_outage_ms=3000,
    ),
    "post-copy-loses-its-link": replace(NEVER, post_copy_iterations=3, schedule="post-copy 0.1 s: cut"),
    "retune-on-a-stall": replace(NEVER, schedule="stalled: downtime-limit-ms=300; stalled: downtime-limit-ms=3000"),
    "cancel-on-a-stall": replace(NEVER, schedule="stalled: cancel"),
    "auto-converge": replace(
        NEVER, bandwidth_mib_s=64, downtime_limit_ms=200, auto_converge_initial=80, auto_converge_increment=19,
        max_time_seconds=20,
    ),
    "auto-converge-too-weak": replace(NEVER, auto_converge_increment=10),
    "auto-converge-then-post-copy": replace(
        NEVER, auto_converge_initial=40, auto_converge_increment=20, schedule="3 s: post-copy"
    ),
    "xbzrle": replace(NEVER, xbzrle_cache_percent=25, schedule="iteration 5: downtime-limit-ms=3000"),
    "compress": replace(SOON, compress_threads=2),
    "multifd": replace(SOON, multifd_channels=2),
    "multifd-zstd": replace(SOON, multifd_channels=2, multifd_compression="zstd", transport="tcp"),
    "zero-copy": replace(SOON, multifd_channels=2, zero_copy_send=True, transport="tcp"),
    "background-snapshot": replace(NEVER, background_snapshot=True, transport="exec-file"),
    "background-snapshot-cancelled": replace(
        NEVER, background_snapshot=True, transport="exec-file", schedule="0.05 s: cancel"
    ),
    "tls-psk": replace(SOON, tls="psk"),
    "tls-x509-multifd": replace(SOON, tls="x509", multifd_channels=2, transport="tcp"),
    "switchover-ack": replace(SOON, switchover_ack=True, avail_switchover_mib_s=200),
    "throttle-saturated": replace(
        NEVER, auto_converge_initial=50, auto_converge_increment=30, auto_converge_max=80, max_time_seconds=40
    ),
    # told that the link is fast, QEMU stops the guest at once, and compression makes the last pass long
    "downtime-over-limit": replace(
        NEVER, multifd_channels=1, multifd_compression="zlib", avail_switchover_mib_s=100_000, transport="tcp"
    ),
    "guest-lost": replace(NEVER, pause_iterations=3),
}  # fmt: skip
PROBED = frozenset({"post-copy-probed", "background-snapshot"})
"""Made with a probe of the guest's accesses to memory."""
UNPROTECTED = frozenset({"guest-lost"})
"""Made without the 8 KiB that keep QEMU before 9.0 from losing guest memory (docs/qemu.md): the guest falls silent."""
BINARIES = {"7.2": "qemu-system-x86_64", "10.0": str(cache_dir() / "bin" / "qemu-system-x86_64-10.0")}


async def make(wanted: Sequence[str], data: DataDir) -> None:
    """Run and write each recording whose name matches; what the QEMU does not support has none."""
    for version, binary in BINARIES.items():
        for name, scenario in SCENARIOS.items():
            place = f"{version}-{name}"
            bare = name in UNPROTECTED
            rate = LONG_HZ if scenario.max_time_seconds > LONG_SECONDS else ACTIVE_HZ
            if not any(fnmatch.fnmatch(place, pattern) for pattern in wanted) or (bare and version != "7.2"):
                continue
            request = replace(
                a_request(scenario, binary=binary, warm_start=not bare), sampling=Sampling(active_hz=rate)
            )
            if name in PROBED:
                request = replace(request, workload=replace(request.workload, probe_hz=100))
            with patch("driver.kit.slow_path_kib", return_value=0) if bare else nullcontext():
                record = await run_migration(request, data, start_exporter)
            print(f"{place}: {record.outcome} {record.reason or ''}")
            if record.outcome != "unsupported":
                write(place, record, data)


def write(name: str, record: RunRecord, data: DataDir) -> None:
    """Write one recording; what tells of this machine is left out."""
    run, place = data.run(record.run), recordings.RECORDINGS / name
    tables = {measurement: history.load(data, run, measurement) for measurement in MEASUREMENTS}
    tags = {name: each.tags for name, each in MEASUREMENTS.items()}
    samples = recordings.samples_of({name: table.to_pylist() for name, table in tables.items()}, tags)
    header = Header(
        run=record.run, campaign=None, scenario=record.scenario_name, host=HOST, vm="0", clock=record.clock
    )  # fmt: skip
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    journal = place / "journal"
    with JournalWriter(journal, header) as writer:
        for start in range(0, len(samples), BATCH_SAMPLES):
            writer.append(Batch(samples=samples[start : start + BATCH_SAMPLES]))
    (place / recordings.JOURNAL).write_bytes(lzma.compress(journal.read_bytes()))
    journal.unlink()
    shutil.copy(run.marks, place / recordings.MARKS)
    (place / recordings.RECORD).write_text(json.dumps(asdict(_anonymous(record)), indent=1) + "\n")
    size = sum(path.stat().st_size for path in place.iterdir())
    if size > LARGEST_BYTES:
        raise SystemExit(f"{name}: {size} bytes, want at most {LARGEST_BYTES}")


def _anonymous(record: RunRecord) -> RunRecord:
    assert record.source_binary
    assert record.destination_binary
    assert record.guest
    where = "/usr/bin/qemu-system-x86_64"
    return replace(
        record,
        host=replace(record.host, name=HOST),
        source_binary=replace(record.source_binary, path=where),
        destination_binary=replace(record.destination_binary, path=where),
        guest=replace(record.guest, kernel_path="/boot/vmlinuz"),
        git_revision=None,
    )


if __name__ == "__main__":
    os.environ[LINGER_VARIABLE] = LINGER
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(make(sys.argv[1:] or ["*"], DataDir.open(Path(scratch))))
