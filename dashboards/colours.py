"""Colours that stay apart for the colour-blind: one colour for one meaning, in every figure, for light and dark."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Colour:
    """One meaning's colour on a light and on a dark ground (`#rrggbb`)."""

    light: str
    dark: str


MEANINGS: dict[str, Colour] = {
    "ground": Colour(light="#ffffff", dark="#16191d"),
    "text": Colour(light="#1d232a", dark="#e4e8ec"),
    "quiet": Colour(light="#5a6470", dark="#9aa5b1"),
    "grid": Colour(light="#e3e7eb", dark="#2c333b"),
    "guest": Colour(light="#0064b0", dark="#5db4ff"),
    "guest-vcpu": Colour(light="#79abd4", dark="#3f78aa"),
    "source": Colour(light="#d15a00", dark="#ff9244"),
    "destination": Colour(light="#008a65", dark="#2ecfa0"),
    "throttle": Colour(light="#a4357d", dark="#f08bcb"),
    "remaining": Colour(light="#6a47b8", dark="#b39bff"),
    "dirty": Colour(light="#96700a", dark="#e6c34a"),
    "bandwidth": Colour(light="#2787b8", dark="#7fcdf2"),
    "blackout": Colour(light="#c00021", dark="#ff5d6e"),
    "phase-before": Colour(light="#8c97a3", dark="#6b7682"),
    "phase-migrate": Colour(light="#4a78a8", dark="#4d83b8"),
    "phase-switchover": Colour(light="#c00021", dark="#ff5d6e"),
    "phase-recover": Colour(light="#3f9c80", dark="#3aa585"),
    "good": Colour(light="#00734f", dark="#3fdcab"),
    "undecided": Colour(light="#8a6100", dark="#f0c554"),
    "bad": Colour(light="#b3261e", dark="#ff8a80"),
}
"""Lines, phases and outcomes. Source and destination differ in colour; QEMU, vCPU and threads in their dashes."""

RUNS: tuple[Colour, ...] = (
    Colour(light="#0072b2", dark="#56b4f0"),
    Colour(light="#d55e00", dark="#ff9a4d"),
    Colour(light="#009e73", dark="#35d6a6"),
    Colour(light="#aa3f8f", dark="#f092d2"),
    Colour(light="#a67c00", dark="#f0d04c"),
    Colour(light="#4b4fc4", dark="#a9adff"),
    Colour(light="#5f6b76", dark="#b8c2cc"),
    Colour(light="#8c2f2f", dark="#ff8f8f"),
)
"""One for each run of an overlay (after Okabe and Ito); a ninth run takes the first again, with another dash."""

RUN_DASHES = ("solid", "dash", "dot", "dashdot")

OUTCOME_MEANINGS: dict[str, str] = {
    "completed": "good",
    "not_converged": "bad",
    "failed": "bad",
    "guest_lost": "bad",
    "broken": "bad",
    "unsupported": "undecided",
    "abandoned": "undecided",
    "cancelled": "undecided",
}

OUTCOME_SIGNS: dict[str, str] = {"good": "✓", "bad": "✗", "undecided": "○"}
"""Beside each outcome's colour, so that colour is never the only sign."""

TERMINAL_STYLES: dict[str, str] = {"good": "green", "bad": "red", "undecided": "yellow"}
"""The same meanings in a terminal's own colours."""


def run_colour(index: int) -> str:
    """The name under which `palettes` holds the colour of the overlay's run at `index`."""
    return f"run-{index % len(RUNS)}"


def run_dash(index: int) -> str:
    """The dash of the run at `index`, so that runs which share a colour still differ."""
    return RUN_DASHES[index // len(RUNS) % len(RUN_DASHES)]


def outcome_meaning(outcome: str | None) -> str:
    """`good`, `bad` or `undecided`; a run without an outcome is undecided."""
    return OUTCOME_MEANINGS.get(outcome or "", "undecided")


def palettes() -> dict[str, dict[str, str]]:
    """Both palettes, `light` and `dark`, each mapping a name to `#rrggbb`."""
    named = MEANINGS | {run_colour(index): colour for index, colour in enumerate(RUNS)}
    return {
        "light": {name: colour.light for name, colour in named.items()},
        "dark": {name: colour.dark for name, colour in named.items()},
    }
