"""How commands print: data on stdout, as JSON or as a table."""

from __future__ import annotations

import sys
from typing import Any

import orjson
from rich.console import Console, RenderableType

PIPE_COLUMNS = 200


def print_json(data: Any) -> None:
    """Print JSON, indented, on stdout."""
    sys.stdout.write(orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())


def print_table(table: RenderableType) -> None:
    """Print a table on stdout; into a pipe it is as wide as it wants to be."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_COLUMNS)
    console.print(table)


def view_console() -> Console:
    """The console of live views: stderr, since stdout is data."""
    return Console(stderr=True)
