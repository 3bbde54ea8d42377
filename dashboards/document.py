"""The HTML document around every report: one file with its style and colours in it, which fetches nothing."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path

from dashboards.colours import palettes, run_colour
from driver.datadir import write_atomically
from workload.errors import BadValueError, BrokenError

STYLE = Path(__file__).with_name("report.css")

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:;"
    " form-action 'none'; base-uri 'none'"
)
"""Content security policy: whatever stands in the page, nothing is ever fetched."""


def document(title: str, body: str, *, style: str = "", tail: str = "") -> str:
    """The whole page; `style` goes behind the reports' common one, `tail` (scripts and their data) behind the body."""
    both = palettes()
    light, dark = ("".join(f"--{name}:{value};" for name, value in both[mode].items()) for mode in ("light", "dark"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>:root{{{light}}}\n"
        f"@media (prefers-color-scheme: dark){{:root{{{dark}}}}}\n{STYLE.read_text()}{style}</style>\n"
        f"</head><body><main>\n{body}\n</main>\n{tail}</body></html>\n"
    )


def check_output(output: Path) -> None:
    """Check that a page can be written there: before what it reports on is run.

    Raises:
        BadValueError: `output` cannot be a file, or this user may not write it.
    """
    if output.is_dir():
        raise BadValueError(f"report {output}: is a directory; want the path of a file")
    above = next(parent for parent in output.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise BadValueError(f"report {output}: {above} is no directory that can be written; choose another")


def write_document(output: Path, content: str) -> None:
    """Write a page; its directory is made.

    Raises:
        BadValueError: `output` cannot be a file, or this user may not write it.
        BrokenError: it cannot be written.
    """
    check_output(output)
    try:
        write_atomically(output.absolute(), content.encode(), mode=0o644)
    except OSError as error:
        raise BrokenError(f"report {output}: {error.strerror}; choose another with -o") from error


def swatch(place: int) -> str:
    """The coloured square before the label of what is at `place` in a report."""
    return f'<span class="swatch" style="--run:var(--{run_colour(place)})"></span>'
