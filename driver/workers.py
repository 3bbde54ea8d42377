"""The workers of a cluster as values: what each can run, and which of them must take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from driver.cluster_worker import WorkerFacts

PAIR = "pair-"
"""Labels that begin so name a pair of hosts: workers that share one take turns."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker: its address, what it found out about itself, and the labels that it was started with.

    `gone` is set when its cluster has lost it.
    """

    address: str
    facts: WorkerFacts
    told: frozenset[str]
    gone: asyncio.Event = field(default_factory=asyncio.Event, compare=False)

    @property
    def labels(self) -> frozenset[str]:
        """What it was told, and what it found: `kvm`, and `qemu-VERSION` for each QEMU of the plan."""
        found = {f"qemu-{one}" for one in self.facts.versions.values()}
        return self.told | found | ({"kvm"} if self.facts.kvm else set())

    @property
    def turns(self) -> frozenset[str]:
        """What no two runs may hold at once: the host (by its driver lock), and the pair of hosts."""
        return frozenset({self.facts.host_lock, *(label for label in self.told if label.startswith(PAIR))})


def slots_of(workers: Iterable[Worker]) -> int:
    """How many of these workers can run at once."""
    held: set[str] = set()
    count = 0
    for worker in workers:
        if held.isdisjoint(worker.turns):
            held |= worker.turns
            count += 1
    return count


def free_worker(workers: Iterable[Worker], busy: Collection[Worker], cell: str) -> Worker | None:
    """Return the first worker that can run a cell and whose turn it is."""
    held = {turn for worker in busy for turn in worker.turns}
    return next(
        (one for one in workers if cell not in one.facts.refused and held.isdisjoint(one.turns)),
        None,
    )


def unfit(worker: Worker, wanted: Collection[str], versions: Mapping[str, str]) -> str | None:
    """Why a worker gets no runs: a label that it lacks, another migrascope, another QEMU under the same name.

    `versions` maps each QEMU of the plan to the version that the workers before had: runs of two versions are not runs
    of one cell.
    """
    if lacking := sorted(set(wanted) - worker.labels):
        return f"has no label {lacking[0]} (its labels: {', '.join(sorted(worker.labels)) or 'none'})"
    if worker.facts.migrascope != (own := version("migrascope")):
        return f"has migrascope {worker.facts.migrascope}, the campaign {own}"
    for binary, found in worker.facts.versions.items():
        if versions.get(binary, found) != found:
            return f"has {binary} {found}, other workers {versions[binary]}; choose by label: --on qemu-{found}"
    return None
