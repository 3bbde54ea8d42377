"""query-migrate's replies of QEMU 7.2 and 10.0, read into base units."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.progress import FIELDS, Progress
from tests import captures

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("name", captures.names())
def test_every_recorded_reply_parses_with_no_number_unmapped_or_dropped(name: str) -> None:
    for _, progress in captures.replies(name):
        assert progress.status
        assert not progress.unmapped
        assert not progress.dropped


def test_units_become_base_units_and_what_qemu_did_not_say_stays_absent() -> None:
    reply: dict[str, Any] = {"status": "active", "total-time": 1500, "ram": {"mbps": 8.0, "remaining": 4096}}
    progress = Progress.parse(reply)
    assert progress.fields == {
        "total_seconds": 1.5,
        "bandwidth_bytes_per_second": 1e6,
        "remaining_bytes": 4096.0,
    }
    assert progress.throttle_percent is None
    assert progress.dirty_bytes_per_second is None


def test_a_number_nobody_mapped_is_kept_under_the_name_of_its_place_and_told() -> None:
    progress = Progress.parse({"status": "active", "ram": {"new-thing": 7}})
    assert progress.fields == {"ram_new_thing": 7.0}
    assert progress.unmapped == ("ram_new_thing",)


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), 10**400])
def test_a_number_that_cannot_be_is_dropped_and_told(bad: float) -> None:
    progress = Progress.parse({"status": "active", "ram": {"remaining": bad}})
    assert progress.fields == {}
    assert list(progress.dropped) == ["ram.remaining"]


@given(st.dictionaries(st.sampled_from(["status", "ram", "downtime", "x"]) | st.text(max_size=5), JSON))
def test_no_reply_whatever_makes_the_parser_raise(reply: dict[str, Any]) -> None:
    assert all(value >= 0 for value in Progress.parse(reply).fields.values())


def test_no_two_places_of_the_reply_share_a_name() -> None:
    names = [name for name, _ in FIELDS.values()]
    assert len(names) == len(set(names))
