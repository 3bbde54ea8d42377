"""How commands print: data on stdout, as JSON or as a table."""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson
from rich.console import Console, RenderableType

from workload.errors import BrokenError

PIPE_COLUMNS = 200


def print_json(data: Any) -> None:
    """Print JSON, indented, on stdout."""
    with _stdout():
        sys.stdout.write(orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print CSV with a line of headings on stdout."""
    with _stdout():
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def print_lines(lines: Iterable[str]) -> None:
    """Print plain lines on stdout."""
    with _stdout():
        sys.stdout.writelines(f"{line}\n" for line in lines)


def print_table(table: RenderableType) -> None:
    """Print a table on stdout; into a pipe it is as wide as it wants to be."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_COLUMNS)
    with _stdout():
        console.print(table)


def view_console() -> Console:
    """The console of live views: stderr, since stdout is data."""
    return Console(stderr=True)


@contextlib.contextmanager
def _stdout() -> Iterator[None]:
    """Write to stdout to the end.

    Raises:
        BrokenError: it takes no more (a full disk). A reader that has gone is BrokenPipeError.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        with contextlib.suppress(OSError):
            sys.stdout.close()  # or the interpreter tries again at its end
        raise BrokenError(f"stdout: {error.strerror}") from error
