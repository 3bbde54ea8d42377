"""Following a console file while it grows."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

import pytest

from workload.console import Tick, write
from workload.errors import BrokenError
from workload.follow import Arrival, Follower


def line(number: int) -> bytes:
    return write(Tick(line=number, sequence=number, guest_ns=number)).encode()


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def open_descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


async def take(follower: Follower, count: int) -> list[Arrival]:
    arrivals: list[Arrival] = []
    async with asyncio.timeout(10):
        async for more in follower:
            arrivals += more
            if len(arrivals) >= count:
                break
    return arrivals


def numbers(arrivals: list[Arrival]) -> list[int]:
    return [arrival.record.line for arrival in arrivals]


async def test_what_stands_in_the_file_and_what_is_added_both_arrive(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    append(path, line(1))
    async with Follower(path) as follower:
        assert numbers(await take(follower, 1)) == [1]
        append(path, line(2) + line(3)[:5])
        assert numbers(await take(follower, 1)) == [2]
        append(path, line(3)[5:])
        last = await take(follower, 1)
    assert numbers(last) == [3]
    assert last[0].end_offset == path.stat().st_size


async def test_a_file_that_does_not_exist_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    async with Follower(path) as follower:
        assert follower.read_rest() == []
        append(path, line(5))
        assert numbers(await take(follower, 1)) == [5]


async def test_even_its_directory_may_be_made_later(tmp_path: Path) -> None:
    path = tmp_path / "run" / "console.log"
    async with Follower(path) as follower:
        path.parent.mkdir()
        append(path, line(5))
        assert numbers(await take(follower, 1)) == [5]


async def test_a_follower_goes_on_at_the_offset_where_another_ended(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    append(path, line(1) + line(2) + line(3))
    async with Follower(path) as first:
        offset = (await take(first, 3))[1].end_offset
    async with Follower(path, offset=offset) as second:
        arrivals = second.read_rest()
    assert numbers(arrivals) == [3]
    assert arrivals[0].end_offset == path.stat().st_size
    assert second.parser.lost_lines == 0


async def test_records_are_stamped_when_they_arrive_not_when_they_are_fetched(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    stamps_ns = itertools.count(100)
    asked = asyncio.Event()

    def clock() -> int:
        asked.set()
        return next(stamps_ns)

    async with Follower(path, clock=clock) as follower:
        for number in (1, 2, 3):
            append(path, line(number))
            async with asyncio.timeout(10):
                await asked.wait()
            asked.clear()
        stamps = [arrival.stamp_ns for arrival in follower.read_rest()]
    assert stamps == [100, 101, 102]


async def test_the_rest_is_read_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    append(path, b"")
    async with Follower(path) as follower:
        append(path, line(1) + line(2))
        assert numbers(follower.read_rest()) == [1, 2]
        assert follower.read_rest() == []


async def test_the_default_clock_is_the_monotonic_one(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    before = time.monotonic_ns()
    append(path, line(1))
    async with Follower(path) as follower:
        (arrival,) = follower.read_rest()
    assert before < arrival.stamp_ns < time.monotonic_ns()


async def test_a_cancelled_wait_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    async with Follower(path) as follower:
        waiting = asyncio.create_task(anext(follower))
        await asyncio.sleep(0)
        waiting.cancel()
        append(path, line(1))
        assert numbers(await take(follower, 1)) == [1]
        assert waiting.cancelled()


async def test_a_file_that_cannot_be_read_is_told_to_the_consumer(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.mkdir()
    async with Follower(path) as follower:
        with pytest.raises(BrokenError, match=r"console\.log: cannot be followed: Is a directory"):
            await take(follower, 1)


async def test_a_growth_that_raised_no_event_is_found_by_the_fallback(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    append(path, b"")
    async with Follower(path) as follower:
        follower._loop.remove_reader(follower._inotify.fd)
        append(path, line(1))
        assert numbers(await take(follower, 1)) == [1]


async def test_a_follower_leaves_no_descriptor_open(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    append(path, line(1))
    before = open_descriptors()
    async with Follower(path) as follower:
        await take(follower, 1)
    assert open_descriptors() == before
