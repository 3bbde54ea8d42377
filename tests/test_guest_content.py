"""What each workload's accesses do to memory, and which pages they go to: natively, on the guest's own code."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tests.native_guest import run_native
from workload.image import guest_command_line
from workload.settings import Workload

LOOPS = ("lcg4", "mwc16")
PAGE_BYTES = 4096
WINDOW_BYTES = 64 << 10
SHARE_BYTES = 1 << 20
PAGES = 2 * SHARE_BYTES // PAGE_BYTES
ZERO_PAGE = bytes(PAGE_BYTES)


def memories(native: Path, loop: str, workload: Workload, passes: int = 3, phase_passes: int = 0) -> list[bytes]:
    """Both shares after the fill and each pass; a pass visits as many pages as there are."""
    sizes = (str(SHARE_BYTES), str(passes), str(phase_passes))
    out = run_native(native, "memory", loop, *sizes, guest_command_line(workload, 2))
    size = 2 * SHARE_BYTES
    assert len(out) == size * (passes + 1)
    return [out[size * i : size * (i + 1)] for i in range(passes + 1)]


def a_workload(**values: int | str) -> Workload:
    return Workload(granularity_mib=65_536, **values)  # type: ignore[arg-type] # no line in between


def pages(memory: bytes) -> Iterator[bytes]:
    return (memory[start : start + PAGE_BYTES] for start in range(0, len(memory), PAGE_BYTES))


def ratio(data: bytes, level: int = 1) -> float:
    return len(zstandard.ZstdCompressor(level=level).compress(data)) / len(data)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("asked", [0, 25, 50, 75, 90, 99])
@pytest.mark.parametrize("pattern", ["sequential", "random"])
def test_memory_compresses_by_the_percentage_asked_for_after_every_pass(
    native: Path, loop: str, asked: int, pattern: str
) -> None:
    workload = a_workload(compressible_percent=asked, pattern=pattern)
    for memory in memories(native, loop, workload):
        windows = [memory[start : start + WINDOW_BYTES] for start in range(0, len(memory), WINDOW_BYTES)]
        for window in windows:
            assert ratio(window) == pytest.approx(1 - asked / 100, abs=0.025)
        # QEMU's compression threads take page by page
        assert ratio(next(pages(memory)), 3) == pytest.approx(1 - asked / 100, abs=0.03)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("pattern", ["random", "hotset", "zipf"])
def test_no_order_of_visits_lets_content_repeat_or_compress(native: Path, loop: str, pattern: str) -> None:
    found = memories(native, loop, a_workload(pattern=pattern), passes=4)
    seen: set[bytes] = set()
    before = ZERO_PAGE * PAGES
    for memory in found:
        assert ratio(memory, 12) >= 0.98
        changed = [new for old, new in zip(pages(before), pages(memory), strict=True) if old != new]
        assert changed
        assert len(seen | set(changed)) == len(seen) + len(changed), "a page is like another, or as it was before"
        seen |= set(changed)
        before = memory


@pytest.mark.parametrize("asked", [20, 80])
def test_the_share_of_zero_pages_is_the_one_asked_for(native: Path, asked: int) -> None:
    for memory in memories(native, "lcg4", a_workload(zero_percent=asked)):
        zeros = sum(page == ZERO_PAGE for page in pages(memory))
        assert zeros / PAGES == pytest.approx(asked / 100, abs=0.08)


def test_a_page_that_was_zero_is_whole_again_once_it_is_written(native: Path) -> None:
    workload = a_workload(zero_percent=50, compressible_percent=50, change_percent=10)
    for memory in memories(native, "mwc16", workload):
        written = b"".join(page for page in pages(memory) if page != ZERO_PAGE)
        assert ratio(written) == pytest.approx(0.5, abs=0.025)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("change", "compressible"), [(1, 0), (10, 0), (50, 0), (100, 0), (10, 50), (1, 99)])
def test_a_write_changes_the_share_of_a_page_that_was_asked_for(
    native: Path, loop: str, change: int, compressible: int
) -> None:
    workload = a_workload(change_percent=change, compressible_percent=compressible)
    words = PAGE_BYTES // 8 * (100 - compressible) // 100
    wanted = max(words * change // 100, 1)
    windows = set()
    for before, after in zip(*(memories(native, loop, workload, 2)[1:][i:] for i in (0, 1)), strict=False):
        for old, new in zip(pages(before), pages(after), strict=True):
            changed = [n for n in range(0, PAGE_BYTES, 8) if old[n : n + 8] != new[n : n + 8]]
            assert len(changed) == wanted
            assert changed[-1] - changed[0] == 8 * (wanted - 1), "one window"
            windows.add(changed[0])
    assert change == 100 or compressible == 99 or len(windows) > 10, "at places that differ"


@pytest.mark.parametrize("asked", [0, 5, 50])
def test_a_visit_that_only_reads_leaves_its_page_as_it_was(native: Path, asked: int) -> None:
    before, after = memories(native, "lcg4", a_workload(write_percent=asked), 1)
    written = sum(old != new for old, new in zip(pages(before), pages(after), strict=True))
    assert written / PAGES == pytest.approx(asked / 100, abs=0.08 if asked else 0)


def test_once_writes_every_page_once_and_then_rests(native: Path) -> None:
    filled, first, second = memories(native, "lcg4", a_workload(pattern="once"), 2)
    assert all(old != new for old, new in zip(pages(filled), pages(first), strict=True))
    assert first == second


def test_an_idle_guest_writes_nothing(native: Path) -> None:
    filled, later = memories(native, "lcg4", a_workload(pattern="idle"), 1)
    assert filled == later
    assert ratio(filled) >= 0.98


def test_a_phase_brings_its_own_content_and_the_next_one_takes_it_away(native: Path) -> None:
    workload = a_workload(phases="9:compressible_percent=75/9:zero_percent=100/9:pattern=idle", change_percent=50)
    found = memories(native, "lcg4", workload, passes=6, phase_passes=1)
    wanted = [0.25, 0.25, 0, 0, 1, 1, 1]  # idle leaves the zeros; then come the workload's own whole pages
    assert [ratio(memory) for memory in found] == pytest.approx(wanted, abs=0.025)


def visits(native: Path, count: int, **values: int | str) -> Counter[int]:
    out = run_native(native, "order", str(PAGES), str(count), guest_command_line(a_workload(**values), 1))
    found = Counter(map(int, out.split()))
    assert max(found) < PAGES
    return found


def test_a_sequential_order_takes_every_page_in_turn(native: Path) -> None:
    assert set(visits(native, 3 * PAGES).values()) == {3}


def test_a_random_order_takes_all_pages_alike(native: Path) -> None:
    found = visits(native, 100 * PAGES, pattern="random")
    assert len(found) == PAGES
    assert 8.5 < statistics.pstdev(found.values()) < 11.5, "as chance has it: the root of the mean, 10"


@pytest.mark.parametrize(("memory", "access"), [(10, 90), (1, 50), (50, 99), (99, 10)])
def test_a_hot_set_gets_its_share_of_the_accesses(native: Path, memory: int, access: int) -> None:
    count = 50_000
    found = visits(native, count, pattern="hotset", hot_memory_percent=memory, hot_access_percent=access)
    hot = -(-PAGES * memory // 100)
    assert sum(found[page] for page in range(hot)) / count == pytest.approx(access / 100, abs=0.01)
    assert len(found) > 0.9 * PAGES, "the cold pages are visited too"


@pytest.mark.parametrize("exponent", [50, 99, 200])
def test_zipfs_law_holds_for_the_ranks(native: Path, exponent: int) -> None:
    count = 200_000
    found = visits(native, count, pattern="zipf", zipf_exponent_percent=exponent)
    weights = [(rank + 1) ** (-exponent / 100) for rank in range(PAGES)]
    ranked = [times for _, times in found.most_common()]
    for rank in (0, 1, 2, 5, 10, 20):
        wanted = count * weights[rank] / sum(weights)
        assert ranked[rank] == pytest.approx(wanted, rel=0.15, abs=3 * wanted**0.5)
    hottest = [page for page, _ in found.most_common(4)]
    assert min(abs(a - b) for a in hottest for b in hottest if a != b) > 1, "spread over the share, not side by side"
