"""What is asked of one migration: limits, transport, strategy; and which steps of the strategy are still to come."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass

from workload.errors import BadValueError
from workload.value import check_settings, setting, settings_of

STRATEGIES: dict[str, dict[str, int]] = {
    "none": {},
    "pause": {"pause_iterations": 5},
    "post-copy": {"post_copy_iterations": 3},
    "auto-converge": {"auto_converge_increment": 10},
}
"""Each strategy's name with the fields (and their usual values) that turn it on."""

TRANSPORTS = ("unix", "tcp")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One experiment's conditions; equal values mean the same experiment. 0 turns a strategy's field off."""

    downtime_limit_ms: int = setting(
        300, unit="ms", help="longest pause that QEMU may plan for the switchover", group="limits", low=1,
        high=2_000_000,
    )  # fmt: skip
    bandwidth_mib_s: int = setting(
        125, unit="MiB/s", help="cap on the migration's bandwidth, post-copy's own included", group="limits", low=1,
        high=1 << 20,
    )  # fmt: skip
    max_iterations: int = setting(
        100, unit="iterations", help="cancel when this many dirty-bitmap syncs did not suffice", group="limits", low=1,
        high=1_000_000,
    )  # fmt: skip
    max_time_seconds: int = setting(
        300, unit="s", help="cancel when the migration takes longer", group="limits", low=1, high=604_800
    )
    transport: str = setting("unix", unit="", help="what carries the stream", group="transport", choices=TRANSPORTS)
    pause_iterations: int = setting(
        0, unit="iterations", help="stop the guest after this many iterations; 0 = never", group="strategy", low=1,
        high=1_000_000, zero=True,
    )  # fmt: skip
    post_copy_iterations: int = setting(
        0, unit="iterations", help="switch to post-copy after this many iterations; 0 = never", group="strategy",
        low=1, high=1_000_000, zero=True,
    )  # fmt: skip
    auto_converge_increment: int = setting(
        0, unit="percent", help="throttle step of auto-converge; 0 = off", group="strategy", low=1, high=99, zero=True
    )
    auto_converge_initial: int = setting(
        20, unit="percent", help="first throttle of auto-converge", group="strategy", low=1, high=99
    )
    auto_converge_max: int = setting(
        99, unit="percent", help="highest throttle of auto-converge", group="strategy", low=1, high=99
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.auto_converge_initial > self.auto_converge_max:
            raise BadValueError(
                f"scenario.auto_converge_initial={self.auto_converge_initial}: want at most"
                f" auto_converge_max={self.auto_converge_max}"
            )

    @property
    def strategies(self) -> tuple[str, ...]:
        """The strategies that are on, in the order of `STRATEGIES`; ("none",) where there is none."""
        on = tuple(name for name, fields in STRATEGIES.items() if fields and all(getattr(self, f) for f in fields))
        return on or ("none",)

    @property
    def strategy(self) -> str:
        """The strategies in one word: `none`, `post-copy`, `auto-converge+post-copy`."""
        return "+".join(self.strategies)

    @property
    def bandwidth_bytes_per_second(self) -> int:
        """The cap on bandwidth in bytes a second."""
        return self.bandwidth_mib_s << 20

    @property
    def downtime_limit_seconds(self) -> float:
        """The downtime limit in seconds."""
        return self.downtime_limit_ms / 1000

    @property
    def name(self) -> str:
        """A name computed from the values, of `[a-z0-9.-]` only: two names differ when two scenarios do."""
        parts = [_strategy_name(self, strategy) for strategy in self.strategies]
        parts += [f"{self.bandwidth_mib_s}mib-s", f"{self.downtime_limit_ms}ms"]
        defaults = {name: default for name, (_, default, _) in settings_of(Scenario).items()}
        parts += [f"it{self.max_iterations}"] * (self.max_iterations != defaults["max_iterations"])
        parts += [f"t{self.max_time_seconds}s"] * (self.max_time_seconds != defaults["max_time_seconds"])
        if not self.auto_converge_increment and (
            self.auto_converge_initial != defaults["auto_converge_initial"]
            or self.auto_converge_max != defaults["auto_converge_max"]
        ):
            parts.append(f"ac0-{self.auto_converge_initial}-{self.auto_converge_max}")
        parts += [self.transport] * (self.transport != defaults["transport"])
        return ".".join(parts)


def strategy_fields(name: str) -> dict[str, int]:
    """Return the usual field values of a strategy, or of several joined with `+`.

    Raises:
        BadValueError: a name is unknown; the nearest one is named.
    """
    fields: dict[str, int] = {}
    for part in name.split("+"):
        if part not in STRATEGIES:
            raise BadValueError(f"strategy {part!r} is not known{nearest(part, STRATEGIES)}")
        fields |= STRATEGIES[part]
    return fields


def nearest(word: str, known: Collection[str]) -> str:
    """Say what a mistyped word may have meant: `; did you mean 'pause'? known: none, pause, ...`."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} known: {', '.join(known)}"


def step_to_come(scenario: Scenario, done: Collection[str], throttle_percent: float | None) -> str | None:
    """Name the strategy that may still change the odds, or None when nothing is left to hope for.

    `done` holds the strategies' names whose action was taken (`pause`, `post-copy`). Auto-converge is to come until
    the throttle has reached its maximum (source: QEMU migration/ram.c, mig_throttle_guest_down).
    """
    for name in scenario.strategies:
        if name == "auto-converge":
            if (throttle_percent or 0) < scenario.auto_converge_max:
                return name
        elif name != "none" and name not in done:
            return name
    return None


def _strategy_name(scenario: Scenario, strategy: str) -> str:
    match strategy:
        case "pause":
            return f"pause-{scenario.pause_iterations}"
        case "post-copy":
            return f"post-copy-{scenario.post_copy_iterations}"
        case "auto-converge":
            return (
                f"auto-converge-{scenario.auto_converge_initial}-{scenario.auto_converge_increment}"
                f"-{scenario.auto_converge_max}"
            )
        case _:
            return "pre-copy"
