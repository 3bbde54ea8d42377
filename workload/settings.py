"""What the guest is told to do: how much memory it works on, in which order, what it writes, and how fast."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from workload.errors import BadValueError
from workload.value import bounds, check_settings, setting, settings_of

PATTERNS = ("sequential", "random", "once", "hotset", "zipf", "idle")
PAGE_SIZES = ("any", "4k", "2m", "2m-hugetlb", "1g-hugetlb")

PHASED = (
    "rate_limit_mib_s", "pattern", "hot_memory_percent", "hot_access_percent", "zipf_exponent_percent",
    "write_percent", "change_percent", "zero_percent", "compressible_percent", "disk_write_mib_s",
)  # fmt: skip
"""The settings that a phase may have a value of its own for."""

NO_PHASES = "none"
MOST_PHASES = 16
LONGEST_PHASE_SECONDS = 86_400
LONGEST_PHASES = 512
"""The kernel's command line holds 2048 bytes in all."""

WORKLOADS: dict[str, dict[str, int | str]] = {
    "worst": {},
    "rate": {"rate_limit_mib_s": 50},
    "random": {"pattern": "random"},
    "once": {"pattern": "once"},
    "hotset": {"pattern": "hotset"},
    "zipf": {"pattern": "zipf"},
    "zero-heavy": {"zero_percent": 80},
    "compressible": {"compressible_percent": 75},
    "few-changes": {"change_percent": 2},
    "read-mostly": {"write_percent": 5},
    "idle": {"pattern": "idle"},
}
"""Each workload's usual name with the values that make it."""

_PHASE = re.compile(r"([1-9][0-9]{0,4}):([^:/]+)")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The guest's workload: one thread a vCPU works its share of the working set for ever.

    A line (`xor` record) is printed for every `granularity_mib` MiB that a vCPU has worked on, read or written; one
    that a rate limit slows down, or that idles, prints at latest after 100 ms. `phases` come first, then the
    workload's own settings hold for ever.
    """

    working_set_mib: int = setting(
        32, unit="MiB", help="memory the guest dirties, shared among its vCPUs", group="workload", low=1, high=1 << 20
    )
    granularity_mib: int = setting(
        16, unit="MiB", help="memory xored between two xor lines of one vCPU", group="workload", low=1, high=1 << 16
    )
    tick_ms: int = setting(
        10, unit="ms", help="period of the tick lines that measure the blackout; 0 = none", group="workload", low=1,
        high=10_000, zero=True,
    )  # fmt: skip
    rate_limit_mib_s: int = setting(
        0, unit="MiB/s a vCPU", help="most memory a vCPU xors in a second; 0 = as fast as it can", group="workload",
        low=1, high=1 << 20, zero=True,
    )  # fmt: skip
    pattern: str = setting(
        "sequential", unit="", help="which page is next; once = a single pass, then rest", group="workload",
        choices=PATTERNS,
    )  # fmt: skip
    hot_memory_percent: int = setting(
        10, unit="percent", help="share of the memory that pattern hotset keeps hot", group="workload", low=1, high=99
    )
    hot_access_percent: int = setting(
        90, unit="percent", help="share of the accesses that go there", group="workload", low=1, high=99
    )
    zipf_exponent_percent: int = setting(
        99, unit="percent", help="exponent of pattern zipf in hundredths: rank^-0.99", group="workload", low=1, high=500
    )
    write_percent: int = setting(
        100, unit="percent", help="share of the accesses that write; the others read", group="workload", low=0,
        high=100,
    )  # fmt: skip
    change_percent: int = setting(
        100, unit="percent", help="share of a page's incompressible bytes that a write changes", group="workload",
        low=1, high=100,
    )  # fmt: skip
    zero_percent: int = setting(
        0, unit="percent", help="share of the writes that make the whole page zero", group="workload", low=0, high=100
    )
    compressible_percent: int = setting(
        0, unit="percent", help="share of each page that compresses away", group="workload", low=0, high=99
    )
    disk_write_mib_s: int = setting(
        0, unit="MiB/s", help="what is written to the disk (hardware.disk_mib) in a second; 0 = nothing",
        group="workload", low=1, high=1 << 20, zero=True,
    )  # fmt: skip
    guest_page_size: str = setting(
        "any", unit="", help="pages of the working set; any = huge where the kernel likes", group="workload",
        choices=PAGE_SIZES,
    )  # fmt: skip
    probe_hz: int = setting(
        0, unit="Hz", help="accesses a second whose latency is measured; 0 = none", group="workload", low=1,
        high=10_000, zero=True,
    )  # fmt: skip
    phases: str = setting(
        NO_PHASES, unit="", group="workload",
        help="what comes first: SECONDS:NAME=VALUE,...[/SECONDS:...], as in 5:pattern=hotset/2:pattern=idle",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)
        page_mib = {"2m-hugetlb": 2, "1g-hugetlb": 1024}.get(self.guest_page_size, 1)
        if self.working_set_mib % page_mib:
            raise BadValueError(
                f"workload.working_set_mib={self.working_set_mib}: want a multiple of {page_mib} MiB with"
                f" guest_page_size={self.guest_page_size}"
            )
        self.timeline()

    def timeline(self) -> list[tuple[int | None, Workload]]:
        """The phases in their order, each as (seconds, the workload that holds); the last is this one, for ever.

        Raises:
            BadValueError: `phases` is not of its form, or a value in it is out of its bounds.
        """
        if self.phases == NO_PHASES:
            return [(None, self)]
        parts = self.phases.split("/")
        if len(parts) > MOST_PHASES or len(self.phases) > LONGEST_PHASES:
            raise BadValueError(
                f"workload.phases: want at most {MOST_PHASES} of them in {LONGEST_PHASES} characters, found"
                f" {len(parts)} in {len(self.phases)}"
            )
        own = replace(self, phases=NO_PHASES)
        return [*(_phase(own, part) for part in parts), (None, own)]

    @property
    def name(self) -> str:
        """A name computed from the values that tell what the guest does: `worst`, `zipf-0.99.rate-20`."""
        own = _words(self)
        if self.phases != NO_PHASES:
            own = [*(f"{seconds}s-{_joined(_words(phase))}" for seconds, phase in self.timeline()[:-1]), _joined(own)]
            return "-then-".join(own)
        return _joined(own)


def _phase(own: Workload, part: str) -> tuple[int, Workload]:
    match = _PHASE.fullmatch(part)
    if match is None or int(match[1]) > LONGEST_PHASE_SECONDS:
        raise BadValueError(
            f"workload.phases: {part!r}: want SECONDS:NAME=VALUE,... with 1 to {LONGEST_PHASE_SECONDS} seconds"
        )
    known = settings_of(Workload)
    values: dict[str, int | str] = {}
    for pair in match[2].split(","):
        name, equals, word = pair.partition("=")
        if name not in PHASED or not equals:
            raise BadValueError(f"workload.phases: {pair!r}: want NAME=VALUE with one of {', '.join(PHASED)}")
        kind, _, facts = known[name]
        if kind is int and not re.fullmatch(r"[0-9]{1,18}", word):
            raise BadValueError(f"workload.phases: {pair!r}: want {bounds(facts)}")
        values[name] = kind(word)
    try:
        return int(match[1]), _with(own, values)
    except BadValueError as error:
        raise BadValueError(f"workload.phases: {part!r}: {error}") from None


def _with(own: Workload, values: Mapping[str, int | str]) -> Workload:
    return replace(own, **values)  # type: ignore[arg-type] # names and types were checked against the settings


def _words(workload: Workload) -> list[str]:
    """What tells this workload from the worst case, in words."""
    pattern = {
        "sequential": "",
        "hotset": f"hotset-{workload.hot_access_percent}-{workload.hot_memory_percent}",
        "zipf": f"zipf-{workload.zipf_exponent_percent / 100:.2f}",
    }.get(workload.pattern, workload.pattern)
    words = [pattern] * bool(pattern)
    words += [f"rate-{workload.rate_limit_mib_s}"] * bool(workload.rate_limit_mib_s)
    words += [f"write-{workload.write_percent}"] * (workload.write_percent != 100)
    words += [f"change-{workload.change_percent}"] * (workload.change_percent != 100)
    words += [f"zero-{workload.zero_percent}"] * bool(workload.zero_percent)
    words += [f"compressible-{workload.compressible_percent}"] * bool(workload.compressible_percent)
    words += [f"disk-{workload.disk_write_mib_s}"] * bool(workload.disk_write_mib_s)
    return words + [f"pages-{workload.guest_page_size}"] * (workload.guest_page_size != "any")


def _joined(words: list[str]) -> str:
    return ".".join(words) or "worst"
