"""What the guest's memory holds: nothing that compression or page hashing could use, for every candidate loop."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import zstandard

from tests.native_guest import run_native
from workload.image import guest_command_line
from workload.settings import Workload

PASSES = 8
WINDOW_BYTES = 64 << 10
PAGE_BYTES = 4096
LOOPS = ("lcg4", "mwc16")


def memories(native: Path, loop: str, vcpus: int, share_bytes: int) -> list[bytes]:
    """The whole working set after the fill and after each pass."""
    settings = guest_command_line(Workload(granularity_mib=65_536), vcpus)  # no line in between
    out = run_native(native, "memory", loop, str(share_bytes), str(PASSES), "0", settings)
    size = vcpus * share_bytes
    assert len(out) == size * (PASSES + 1)
    return [out[size * i : size * (i + 1)] for i in range(PASSES + 1)]


def test_these_are_all_the_candidate_loops(native: Path) -> None:
    assert tuple(run_native(native, "loops").decode().split()) == LOOPS


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("vcpus", "share_bytes"), [(1, 1 << 20), (2, 1 << 19), (4, 1 << 18), (1, 1 << 16)])
def test_no_window_of_64_kib_compresses_after_any_pass(native: Path, loop: str, vcpus: int, share_bytes: int) -> None:
    compressor = zstandard.ZstdCompressor(level=1)
    for number, memory in enumerate(memories(native, loop, vcpus, share_bytes)):
        for start in range(0, len(memory), WINDOW_BYTES):
            window = memory[start : start + WINDOW_BYTES]
            ratio = len(compressor.compress(window)) / len(window)
            assert ratio >= 0.98, f"pass {number}, offset {start}"


@pytest.mark.parametrize("loop", LOOPS)
def test_a_whole_working_set_does_not_compress_at_a_high_level(native: Path, loop: str) -> None:
    compressor = zstandard.ZstdCompressor(level=12)
    for memory in memories(native, loop, 2, 1 << 19):
        assert len(compressor.compress(memory)) >= 0.98 * len(memory)


@pytest.mark.parametrize("loop", LOOPS)
def test_no_page_is_like_another_or_returns_to_an_earlier_content(native: Path, loop: str) -> None:
    pages = [
        hashlib.sha256(memory[start : start + PAGE_BYTES]).digest()
        for memory in memories(native, loop, 2, 1 << 19)
        for start in range(0, len(memory), PAGE_BYTES)
    ]
    assert len(set(pages)) == len(pages)


@pytest.mark.parametrize("loop", LOOPS)
def test_every_byte_changes_about_as_often_as_chance_has_it(native: Path, loop: str) -> None:
    before, after = memories(native, loop, 2, 1 << 16)[3:5]
    kept = sum(old == new for old, new in zip(before, after, strict=True))
    assert 0.8 / 256 < kept / len(before) < 1.2 / 256


@pytest.mark.parametrize("loop", LOOPS)
def test_a_share_that_is_no_multiple_of_the_chunk_is_xored_to_its_end(native: Path, loop: str) -> None:
    before, after = memories(native, loop, 1, (256 << 10) + 3 * PAGE_BYTES)[:2]
    same = [n for n in range(0, len(before), PAGE_BYTES) if before[n : n + PAGE_BYTES] == after[n : n + PAGE_BYTES]]
    assert same == []
