"""A query's rows on a terminal: no cell is ever broken, columns that do not fit beside each other follow in bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from dashboards.units import counted

GAP = 1
FRAME = GAP + 1
"""What a column takes beside its text: Rich draws a line of blanks between columns."""
WIDEST_CELL = 60
"""A cell that is wider is folded: SQL can make a cell of a whole column."""


def query_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> RenderableType:
    """A query's rows; numbers stand to the right, floats with six digits (JSON and CSV have all)."""
    return _QueryTable(columns, rows)


class _QueryTable:
    """Where all columns do not fit, those whose value is the same in every row are told once, above the table."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self._names = list(columns)
        self._numeric = [any(isinstance(row[place], int | float) for row in rows) for place in range(len(columns))]
        self._cells = [[_cell(value) for value in row] for row in rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        places = list(range(len(self._names)))
        width = options.max_width
        if sum(map(self._width, places)) <= width or not self._cells:
            yield self._table(places)
            return
        same = [place for place in places if len({cells[place] for cells in self._cells}) == 1]
        if len(self._cells) > 1 and same:
            told = ", ".join(f"{self._names[place]} {self._cells[0][place] or 'null'}" for place in same)
            yield Text(f"the same in all {counted(len(self._cells), 'row')}: {told}", style="dim")
            yield Text()
            places = [place for place in places if place not in same] or places
        for band in self._bands(places, width):
            yield self._table(band)

    def _bands(self, places: Sequence[int], width: int) -> Iterator[list[int]]:
        """Columns that fit beside each other; the first one is repeated, so that rows can be told apart."""
        first = places[0]
        band = [first]
        for place in places[1:]:
            if len(band) > 1 and sum(map(self._width, [*band, place])) > width:
                yield band
                band = [first]
            band.append(place)
        yield band

    def _width(self, place: int) -> int:
        texts = [self._names[place], *(cells[place] for cells in self._cells)]
        return min(max(Text(text).cell_len for text in texts), WIDEST_CELL) + FRAME

    def _table(self, places: Sequence[int]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, GAP, 0, 0), show_edge=False)
        for place in places:
            table.add_column(
                Text(self._names[place]), justify="right" if self._numeric[place] else "left",
                overflow="fold", max_width=WIDEST_CELL,
            )  # fmt: skip
        for cells in self._cells:
            table.add_row(*(Text(cells[place]) for place in places))
        return table


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return f"[{', '.join(map(_cell, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
