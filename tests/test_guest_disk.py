"""The guest's disk: its modules load, it is written at the rate that was set, and what is wrong is told in a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_guest_boot import Boot, Guest
from workload.console import Disk, GuestError
from workload.image import build_initrd
from workload.kernel import disk_modules, find_kernel
from workload.settings import Workload

MIB = 1 << 20
WORKLOAD = Workload(working_set_mib=16, granularity_mib=4)

pytestmark = pytest.mark.qemu


@pytest.fixture
def boot(qemu_binary: Path, cache: Path, tmp_path: Path) -> Iterator[Boot]:
    booting = Boot(qemu_binary, cache, tmp_path)
    booting.initrd = build_initrd(cache, disk_modules(find_kernel(None, cache), cache)).path
    yield booting
    for process in booting.processes:
        process.kill()
        process.wait()


def disks(guest: Guest) -> list[Disk]:
    return [record for record in guest.records if isinstance(record, Disk)]


def test_the_disk_is_written_at_its_rate_with_content_that_never_repeats(boot: Boot, tmp_path: Path) -> None:
    file = tmp_path / "disk.raw"
    with file.open("wb") as made:
        made.truncate(8 * MIB)
    boot.more = ["-drive", f"file={file},format=raw,if=virtio"]
    booted = boot(Workload(working_set_mib=16, granularity_mib=4, disk_write_mib_s=8, phases="1:disk_write_mib_s=0"))
    booted.read_until(lambda: sum(line.bytes for line in disks(booted)) > 12 * MIB)
    lines = disks(booted)
    assert [line.sequence for line in lines] == list(range(len(lines)))
    resting = [line for line in lines if not line.bytes]
    assert 5 <= len(resting) <= 12
    writing = lines[len(resting) + 1 : -1]
    assert all(line.bytes == line.writes * (64 << 10) for line in writing)
    assert all(0 < line.most_ns <= line.sum_ns <= line.taken_ns for line in writing)
    rate = sum(line.bytes for line in writing) / sum(line.taken_ns for line in writing) * 1e9 / MIB
    assert 6 < rate < 8.5
    boot.processes[0].kill()
    boot.processes[0].wait()
    content = file.read_bytes()
    chunks = [content[at : at + 4096] for at in range(0, len(content), 4096)]
    assert len(set(chunks)) == len(chunks)


def test_a_disk_that_is_not_there_is_an_error_line(boot: Boot) -> None:
    booted = boot(Workload(working_set_mib=16, granularity_mib=4, disk_write_mib_s=8))
    booted.read_to_its_end()
    assert [record.text for record in booted.records if isinstance(record, GuestError)] == [
        "/dev/vda: No such file or directory"
    ]
