"""What the driver hears from a guest after the switchover."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from driver import guest as guest_module
from driver.guest import Guest, GuestLostError
from driver.settle import Settle
from workload.console import Ready, Tick, write

READY = Ready(
    line=0, guest_ns=1, vcpus=1, working_set_bytes=1 << 20, granularity_bytes=1 << 20, tick_ms=10, rate_limit_bytes=0,
    loop="lcg4", loops={"lcg4": 1e9},
)  # fmt: skip
BRIEF = Settle(recover_seconds=0.3)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_module, "SILENCE_SECONDS", 0.6)


@pytest.mark.usefixtures("brief")
async def test_a_guest_that_says_nothing_on_the_destination_is_lost_whatever_qemu_says(tmp_path: Path) -> None:
    async with Guest(1, {"destination": tmp_path / "console"}, READY, BRIEF) as guest:
        with pytest.raises(GuestLostError, match="printed nothing on the destination"):
            await guest.recover("destination", 1e9)


@pytest.mark.usefixtures("brief")
async def test_a_guest_that_ticks_but_is_slow_is_not_lost(tmp_path: Path) -> None:
    console = tmp_path / "console"
    async with Guest(1, {"destination": console}, READY, BRIEF) as guest:
        following = asyncio.create_task(guest.follow())
        asyncio.get_running_loop().call_later(0.1, console.write_text, write(Tick(line=1, sequence=0, guest_ns=5)))
        pace, done = await guest.recover("destination", 1e9)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert (pace, done) == (None, False)


async def test_an_idle_guest_has_recovered_only_once_it_has_ticked_on_the_destination(tmp_path: Path) -> None:
    console, heard = tmp_path / "console", False
    ticks = "".join(write(Tick(line=number, sequence=number, guest_ns=number + 5)) for number in range(1, 4))

    def speak() -> None:
        nonlocal heard
        heard = bool(console.write_text(ticks))

    async with Guest(1, {"destination": console}, READY, Settle(recover_seconds=30)) as guest:
        following = asyncio.create_task(guest.follow())
        asyncio.get_running_loop().call_later(0.8, speak)
        _, done = await guest.recover("destination", 0.0)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    assert done
    assert heard
