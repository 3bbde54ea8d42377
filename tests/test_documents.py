"""What README and docs/ say that can be checked: links lead somewhere, commands and options are the program's own."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.catalogue import CATALOGUE
from exporter.mirror.exact import JOB
from migrascope.main import parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

PLACEHOLDERS = re.compile(r"\b(?:N|T|HZ)\b")
"""Words of the pages that stand for a number."""
OTHERS = frozenset({"--bandwidth", "--web.enable-remote-write-receiver"})
"""Options that are named between backticks and not ours: guestperf's and Prometheus'."""


def commands(page: Path) -> Iterator[str]:
    """Each command line of migrascope: after a prompt, or alone between backticks with at least one word of its own."""
    text = page.read_text().replace("\\\n", " ")
    for line in re.findall(r"^\$ (?:\.venv/bin/)?migrascope +(.*)$", text, re.MULTILINE):
        yield re.split(r" +#| [|>] ", line)[0]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (" ".join(words.split()) for words in re.findall(r"`migrascope ([^`]+)`", prose))


def filled_in(command: str) -> list[str]:
    """A command with something for each placeholder: `A|B` is A, `RUN...` one run, `[DIR]` may be left out.

    One that is only named, with no word but its own, asks for its help.
    """
    command = re.sub(r"\[[A-Z]+(?:\.\.\.)?\]|(?<=\w)\.\.\.", "", command.replace("\\|", "|"))
    words = shlex.split(PLACEHOLDERS.sub("7", command))
    words = [word.split("|")[0] if re.fullmatch(r"\w+(\|\w+)+", word) else word for word in words]
    return words if len(words) > 2 or any(re.search(r"[^a-z-]", word) for word in words) else [*words, "--help"]


def options(of: argparse.ArgumentParser) -> Iterator[str]:
    """Every option of a parser and of its commands."""
    for action in of._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from options(command)


OPTIONS = frozenset(options(parser()))


@each_page
def test_every_link_of_a_page_leads_to_a_file_and_a_heading_of_it(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, target


@each_page
def test_every_command_on_a_page_is_one_that_the_program_takes(page: Path) -> None:
    for command in commands(page):
        try:
            parser().parse_args(filled_in(command))
        except SystemExit as end:
            assert end.code == 0, command  # noqa: PT017 - argparse ends with 0 after --help


@each_page
def test_every_option_on_a_page_is_one_that_some_command_takes(page: Path) -> None:
    assert set(re.findall(r"`(--[a-z][\w.-]*)", page.read_text())) <= OPTIONS | OTHERS


def test_the_pages_hold_commands_to_check() -> None:
    assert sum(1 for page in PAGES for _ in commands(page)) >= 60


@each_page
def test_every_make_target_module_and_test_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|\$ )make ([\w-]+)", text)) <= targets
    for module in re.findall(r"\b(?:python -m |`)((?:bench|dashboards)\.\w+)\b", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
    for path in re.findall(r"`((?:tests|bench|driver|exporter|dashboards|workload|deploy|docs)/[\w/-]+\.\w+)", text):
        assert (ROOT / path).exists(), path


SERIES = {f"{metric.name}{suffix}" for metric in CATALOGUE for suffix in ("", "_bucket", "_sum", "_count")} | {JOB}
"""What a page may name: series, and the job of what remote write sends."""


@each_page
def test_every_metric_that_a_page_names_is_in_the_catalogue(page: Path) -> None:
    assert set(re.findall(r"\bmigrascope_\w+", page.read_text())) <= SERIES
