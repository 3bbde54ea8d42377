"""In which order a campaign's runs are made: a drift of the host must not look like a difference between cells."""

from __future__ import annotations

import random
from collections.abc import Sequence

from driver.campaign_state import Slot


def ordered(cells: Sequence[str], repeats: int, order: str, seed: int) -> list[Slot]:
    """Put every (cell, repeat) in order.

    `sequential`: each cell's repeats in a row. `shuffled`: all runs at random, the same for the same seed.
    `interleaved`: the cells to and fro (A B B A A B ...), so that a steady drift falls on all alike (ABBA design).
    """
    if order == "interleaved":
        return [
            (cell, repeat)
            for repeat in range(1, repeats + 1)
            for cell in (cells if repeat % 2 else reversed(cells))
        ]  # fmt: skip
    slots = [(cell, repeat) for cell in cells for repeat in range(1, repeats + 1)]
    if order == "shuffled":
        random.Random(seed).shuffle(slots)  # noqa: S311 - an order that can be had again, no secret
    return slots
