"""The campaigns as their drivers have written them, read anew at a scrape only where something has changed."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable

from driver.campaign_state import CampaignState, read_state
from driver.datadir import CampaignDir, DataDir
from driver.lock import campaign_lives
from exporter.sinks.reader import Readings
from workload.errors import MigrascopeError

SHOWN_SECONDS = 24 * 3600.0
MOST_SHOWN = 20
NANO = 1e-9


class CampaignReader:
    """Reads the campaigns that are at work or changed within a day: the latest twenty, so that their label is bounded.

    A state that cannot be read (its driver is writing the first line, or it is damaged) leaves that campaign out.
    """

    measurement = "campaign"

    def __init__(self, data: DataDir, clock: Callable[[], int] = time.time_ns) -> None:
        self._data = data
        self._clock = clock
        self._known: dict[str, tuple[tuple[int, int], CampaignState]] = {}

    def read(self) -> Readings:
        """The figures as they are now."""
        now_ns = self._clock()
        found: dict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
        for campaign in self._data.all_campaigns()[-MOST_SHOWN:]:
            with contextlib.suppress(MigrascopeError, OSError):
                facts = campaign.state.stat()
                if (now_ns - facts.st_mtime_ns) * NANO <= SHOWN_SECONDS:
                    self._add(found, campaign, self._state(campaign, (facts.st_mtime_ns, facts.st_size)), now_ns)
        return found

    def _state(self, campaign: CampaignDir, stamp: tuple[int, int]) -> CampaignState:
        known = self._known.get(campaign.campaign)
        if known is None or known[0] != stamp:
            known = self._known[campaign.campaign] = stamp, read_state(campaign)
        return known[1]

    def _add(
        self, found: dict[str, dict[tuple[str, ...], float]], campaign: CampaignDir, state: CampaignState, now_ns: int
    ) -> None:
        name = (state.campaign,)
        strategies = {cell.cell: cell.strategy for cell in state.cells}
        planned = Counter(strategies.values())
        ended = Counter((strategies[result.cell], _kind(result.outcome)) for result in state.results())
        for strategy, cells in planned.items():
            labels = (*name, strategy)
            found["planned"][labels] = float(cells * state.repeats)
            found["finished"][labels] = float(sum(count for (of, _), count in ended.items() if of == strategy))
            for kind in ("completed", "not_converged", "failed"):
                found[kind][labels] = float(ended[strategy, kind])
        # a driver that has stopped said so: its lock need not be tried, which the next driver may want just then
        active = state.stopped is None and campaign_lives(campaign)
        found["active"][name] = float(active)
        found["stopped"][name] = float(state.stopped is not None)
        found["left"][name] = float(len(state.slots_left))
        found["cells"][name] = float(len(state.cells))
        found["parked"][name] = float(len(state.parked_cells))
        found["last_change"][name] = state.changed_ns * NANO
        if active:
            found["eta"][name] = state.eta_seconds(now_ns)


def _kind(outcome: str) -> str:
    return outcome if outcome in ("completed", "not_converged") else "failed"
