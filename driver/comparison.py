"""The named comparisons: which scenarios are run side by side, on which machine and workload."""

from __future__ import annotations

from driver.comparison_demo import DEMO
from driver.comparison_guestperf import GUESTPERF
from driver.comparison_plan import Comparison
from driver.comparison_strategies import OURS
from workload.errors import BadValueError
from workload.suggestion import nearest

COMPARISONS: dict[str, Comparison] = {each.name: each for each in (DEMO, *GUESTPERF, *OURS)}


def find_comparison(name: str) -> Comparison:
    """Find a comparison by name.

    Raises:
        BadValueError: it is unknown; the nearest one is named.
    """
    if name not in COMPARISONS:
        raise BadValueError(f"comparison {name!r} is not known{nearest(name, COMPARISONS)}")
    return COMPARISONS[name]
