"""Binding, preallocated, locked and huge pages: felt by real QEMUs, refused where there are none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from driver.binding import Resources, binding, check_bindings
from driver.datadir import DataDir
from driver.hardware import Hardware, numbers
from driver.scenario import Scenario
from tests.driver_process import HARDWARE, a_request
from tests.real_runs import phase_of, pids, running
from tests.waiting import until
from workload.errors import BadValueError, UnsupportedError

MEMORY_KIB = 128 << 10
NODES = Path("/sys/devices/system/node")


def test_each_side_is_bound_to_its_own_cpus_and_nodes() -> None:
    hardware = Hardware(source_cpus="0-1", destination_nodes="0,2-3")
    assert binding(hardware, "source") == ("taskset", "-c", "0-1")
    assert binding(hardware, "destination") == ("numactl", "--membind=0,2-3")
    assert numbers("0,2-4,9") == {0, 2, 3, 4, 9}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source_cpus": "0-"}, "source_cpus='0-': want numbers and ranges"),
        ({"destination_nodes": "all"}, "destination_nodes='all': want numbers"),
        ({"huge_pages_mib": 4}, "huge_pages_mib=4: want 0"),
    ],
)
def test_bindings_that_nobody_could_mean_are_bad_values(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadValueError, match=words):
        Hardware(**changes)


def test_what_a_host_does_not_have_is_unsupported_and_named() -> None:
    host = Resources(host="destination host there", cpus=(0, 1), nodes=(0,), tools=("taskset",), free_huge_pages={})
    wanted = {
        Hardware(destination_cpus="1-2"): "cpus=1-2: CPU 2 cannot be had on destination host there, only 0, 1",
        Hardware(destination_nodes="0"): "nodes=0: numactl is missing on destination host there; apt-get install",
    }
    for hardware, words in wanted.items():
        with pytest.raises(UnsupportedError, match=words):
            check_bindings(hardware, MEMORY_KIB, ("destination",), host)
        check_bindings(hardware, MEMORY_KIB, ("source",), host)
    equipped = replace(host, tools=("numactl", "taskset"))
    check_bindings(Hardware(destination_nodes="0", destination_cpus="0"), MEMORY_KIB, ("destination",), equipped)
    with pytest.raises(UnsupportedError, match=r"source_nodes=0-1: memory node 1 cannot be had on .* there, only 0"):
        check_bindings(Hardware(source_nodes="0-1"), MEMORY_KIB, ("source",), equipped)


def test_what_this_host_has_is_read_from_the_kernel() -> None:
    here = Resources.here()
    assert set(here.cpus) == os.sched_getaffinity(0)
    assert (0 in here.nodes) == (NODES / "node0").is_dir()
    assert ("numactl" in here.tools) == (shutil.which("numactl") is not None)


def test_huge_pages_are_counted_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driver.keeper_host.HUGE_PAGES", tmp_path)
    hardware, both = Hardware(memory_mib=128, huge_pages_mib=2), ("source", "destination")
    with pytest.raises(UnsupportedError, match="want 128 free pages, this host has 0; as root: echo 128 >"):
        check_bindings(hardware, MEMORY_KIB, both, Resources.here())
    pool = tmp_path / "hugepages-2048kB"
    pool.mkdir()
    (pool / "free_hugepages").write_text("64\n")
    with pytest.raises(UnsupportedError, match="want 128 free pages, this host has 64;"):
        check_bindings(hardware, MEMORY_KIB, both, Resources.here())
    check_bindings(hardware, MEMORY_KIB, ("source",), Resources.here())
    with pytest.raises(UnsupportedError, match="131080 KiB is not a multiple of it"):
        check_bindings(hardware, MEMORY_KIB + 8, ("source",), Resources.here())


@pytest.mark.qemu
@pytest.mark.parametrize("name", ["qemu_binary", "qemu_10_binary"])
async def test_a_guest_is_bound_allocated_at_once_and_locked(
    run_data: DataDir, name: str, request: pytest.FixtureRequest
) -> None:
    own = sorted(os.sched_getaffinity(0))
    nodes = "0" if shutil.which("numactl") and (NODES / "node0").is_dir() else ""
    hardware = replace(
        HARDWARE, prealloc=True, locked_pages=os.getuid() == 0, vcpus=2, source_cpus=str(own[0]),
        destination_cpus=str(own[-1]), source_nodes=nodes,
    )  # fmt: skip
    asked = a_request(Scenario(bandwidth_mib_s=1000, downtime_limit_ms=500), binary=str(request.getfixturevalue(name)))
    async with running(replace(asked, hardware=hardware), run_data) as (task, run, _):
        await until(lambda: phase_of(run) == "settle")
        found = pids(run)
        assert os.sched_getaffinity(found["source"]) == {own[0]}
        assert os.sched_getaffinity(found["destination"]) == {own[-1]}
        policies = Path(f"/proc/{found['source']}/numa_maps")
        assert not nodes or "bind:0" in policies.read_text()  # noqa: ASYNC240 - a file of /proc
        # the destination has all its RAM before a page of the guest has come
        assert psutil.Process(found["destination"]).memory_info().rss > hardware.memory_bytes
        if hardware.locked_pages:
            assert locked_kib(found["source"]) > hardware.memory_bytes >> 10
        record = await task
    assert record.outcome == "completed", record.reason
    assert record.hardware == hardware


def locked_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmLck")).split()[1])


@pytest.fixture
def huge_pages() -> Iterator[Path]:
    """A pool of huge pages that two guests of 128 MiB fit into; what the host had before is put back."""
    pool = Path("/proc/sys/vm/nr_hugepages")
    if not os.access(pool, os.W_OK):
        pytest.skip("vm.nr_hugepages can be set by root only")
    before = pool.read_text()
    pool.write_text(str(int(before) + 132))
    try:
        if int(pool.read_text()) < int(before) + 132:
            pytest.skip("the host's memory is too scattered for 132 huge pages")
        yield pool
    finally:
        pool.write_text(before)


@pytest.mark.qemu
async def test_a_guest_lives_in_huge_pages_and_migrates_into_huge_pages(
    data: DataDir, huge_pages: Path, qemu_10_binary: Path
) -> None:
    assert huge_pages
    asked = a_request(Scenario(bandwidth_mib_s=1000, downtime_limit_ms=500), binary=str(qemu_10_binary))
    asked = replace(asked, hardware=replace(HARDWARE, huge_pages_mib=2), warm_start=False)
    async with running(asked, data) as (task, run, _):
        await until(lambda: phase_of(run) == "settle")
        maps = Path(f"/proc/{pids(run)['source']}/smaps_rollup").read_text()  # noqa: ASYNC240 - a file of /proc
        in_use = [int(line.split()[1]) for line in maps.splitlines() if "_Hugetlb:" in line]
        assert sum(in_use) > 32 << 10, "KiB of the guest's RAM that it has touched stand in huge pages"
        record = await task
    assert record.outcome == "completed", record.reason
