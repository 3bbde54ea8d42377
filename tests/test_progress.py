"""query-migrate's replies of QEMU 7.2 and 10.0, read into base units."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driver.progress import FIELDS, UNFILLED, Progress
from tests import captures
from tests.golden import Golden

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("version", ["7.2", "10.0"])
def test_every_recorded_reply_is_read_whole_with_no_number_lost_and_none_invented(version: str, golden: Golden) -> None:
    places: dict[str, list[float]] = defaultdict(list)
    names: dict[str, list[float]] = defaultdict(list)
    statuses: Counter[str] = Counter()
    for reply in (reply for name in captures.names(f"{version}-*") for reply in every_reply(name)):
        progress = Progress.parse(reply)
        found = dict(numbers(reply))
        unfilled = [place for place, value in found.items() if place in UNFILLED and not value]
        assert (progress.unmapped, progress.dropped, progress.status) == ((), {}, reply.get("status"))
        assert len(progress.fields) == len(found) - len(unfilled)
        statuses[progress.status or "(none)"] += 1
        for place, value in found.items():
            places[place].append(value)
        for name, value in progress.fields.items():
            names[name].append(value)
    text = {
        "statuses": dict(sorted(statuses.items())),
        "places of QEMU's reply": spans(places),
        "names here, in base units": spans(names),
    }
    golden.check(f"progress-{version}.json", json.dumps(text, indent=1) + "\n")


def every_reply(name: str) -> Iterator[dict[str, Any]]:
    """The replies to query-migrate of a capture, of whichever QEMU."""
    return (line.data for line in captures.read(name) if line.kind == "query-migrate" and isinstance(line.data, dict))


def numbers(value: object, place: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a reply with its place in dots, the elements of lists by their index."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from numbers(each, f"{place}.{key}" if place else str(key))
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield place, value


def spans(found: Mapping[str, list[float]]) -> dict[str, str]:
    """How often each was said, and between which values."""
    return {
        name: f"{len(values)} times, {min(values):.6g} to {max(values):.6g}" for name, values in sorted(found.items())
    }


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
