"""A whole dashboard: what all of ours have in common, and the links between them."""

from __future__ import annotations

from collections.abc import Sequence

from grafanalib.core import Annotations, Dashboard, DashboardLink, Templating, Time

from dashboards.dialect import Dialect
from dashboards.panels import Heading, Shape, arranged

TAG = "migrascope"


def board(
    dialect: Dialect, *, uid: str, title: str, description: str, variables: Sequence[str],
    items: Sequence[Shape | Heading], refresh: str, since: str, marks: bool = True,
) -> Dashboard:  # fmt: skip
    """Make a dashboard from its panels for one store; `marks` shows the runs' phases as annotations."""
    plain = not dialect.suffix
    return Dashboard(
        title=title if plain else f"{title} ({dialect.name})",
        uid=uid + dialect.suffix,
        description=description,
        tags=[TAG, dialect.name.lower()],
        timezone="browser",
        refresh=refresh,
        time=Time(since, "now"),
        templating=Templating(list=dialect.variables_for(*variables)),
        annotations=Annotations(list=dialect.annotations() if marks else []),
        links=[DashboardLink(title="migrascope", tags=[TAG], asDropdown=True, includeVars=True, keepTime=True)],
        panels=arranged(dialect, items),
    )
