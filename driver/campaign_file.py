"""Reading a campaign's TOML file: strictly, with file, line and field in every error."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from driver.campaign_cells import cells
from driver.campaign_plan import (
    BINARIES,
    CONDITIONS,
    FIELDS,
    SECTIONS,
    STRATEGY,
    Axis,
    Campaign,
    PlannedComparison,
    check_condition,
)
from driver.comparison import find_comparison
from driver.watch import Sampling
from workload.errors import BadValueError
from workload.suggestion import nearest
from workload.value import check_field, settings_of

TABLES = (*SECTIONS, "binaries", "sampling", "labels", "grid", "comparison")
LABELS_MOST, CELLS_MOST = 20, 10_000
HEADER = re.compile(r"\s*\[\[?\s*([\w.\s\"'-]+?)\s*\]\]?\s*(?:#.*)?$")
KEY = re.compile(r"\s*([\w.\"'-]+)\s*=")
INLINE_KEY = re.compile(r"[{,]\s*([\w\"'-]+)\s*=")

Keys = tuple[str, ...]
T = TypeVar("T")


def read_campaign(path: Path) -> Campaign:
    """Read and check a plan file; relative paths of binaries and kernels are taken from the file's directory.

    Raises:
        BadValueError: the file cannot be read, or what is wrong in it: file, line and field, what was found and wanted.
    """
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise BadValueError(f"campaign {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadValueError(f"campaign {path}: is not UTF-8 at byte {error.start}; want a TOML file") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, line = _position(str(error), text)
        raise BadValueError(f"campaign {path} line {line}: is no TOML: {message}") from error
    return _Reader(path, text, data).campaign()


class _Reader:
    """One reading of a file; `campaign` is its only verb."""

    def __init__(self, path: Path, text: str, data: Mapping[str, Any]) -> None:
        self._path = path
        self._lines = _lines_of(text)
        self._data = data
        self._seen: Counter[str] = Counter()  # how often each key stood in a member so far

    def campaign(self) -> Campaign:
        known = {"name", *settings_of(Campaign)}
        top: dict[str, Any] = {"name": re.sub(r"[^a-z0-9-]+", "-", self._path.stem.lower()).strip("-")[:48]}
        for key, value in self._data.items():
            if key in TABLES:
                continue
            if key not in known:
                self._fail((key,), f"{key} is not known{nearest(key, sorted({*known, *TABLES}))}")
            if key != "name":
                self._check((key,), check_field, Campaign, key, value)
            elif not isinstance(value, str):
                self._fail((key,), f"campaign.name={value!r}: want a word")
            top[key] = value
        parts: dict[str, Any] = {"labels": self._labels(), "base": self._base(), "sampling": self._sampling()}
        parts |= {"grid": self._grid(), "comparisons": self._comparisons()}
        built = self._check(("name",), lambda: Campaign(**top, **parts))
        self._check_cells(built)
        return built

    def _base(self) -> dict[str, Any]:
        base: dict[str, Any] = {}
        for section in (*SECTIONS, "binaries"):
            known = BINARIES if section == "binaries" else tuple(settings_of(SECTIONS[section]))
            if section == "scenario":
                known = (*known, STRATEGY)
            for key, value in self._table(section).items():
                base[key] = self._condition((section, key), key, value, known)
        return base

    def _sampling(self) -> Sampling:
        table, known = self._table("sampling"), settings_of(Sampling)
        for key, value in table.items():
            if key not in known:
                self._fail(("sampling", key), f"sampling.{key} is not known{nearest(key, known)}")
            self._check(("sampling", key), check_field, Sampling, key, value)
        return Sampling(**table)

    def _labels(self) -> dict[str, str]:
        table = self._table("labels")
        for key, value in table.items():
            if not isinstance(value, str):
                self._fail(("labels", key), f"labels.{key}={value!r}: want a word in quotes")
        if len(table) > LABELS_MOST:
            self._fail(("labels",), f"labels: {len(table)} of them, want at most {LABELS_MOST}")
        return table

    def _grid(self) -> tuple[Axis, ...]:
        axes = []
        for key, values in self._table("grid").items():
            if not isinstance(values, list) or not values:
                self._fail(("grid", key), f"grid.{key}={values!r}: want a list of values, [...]")
            found = tuple(self._condition(("grid", key), key, value) for value in values)
            if len(set(found)) != len(found):
                self._fail(("grid", key), f"grid.{key}: names a value twice")
            axes.append(Axis(field=key, values=found))
        return tuple(axes)

    def _comparisons(self) -> tuple[PlannedComparison, ...]:
        given = self._data.get("comparison", [])
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            self._fail(("comparison",), "comparison: want one table each, [[comparison]]")
        return tuple(self._comparison(place, one) for place, one in enumerate(given))

    def _comparison(self, place: int, table: Mapping[str, Any]) -> PlannedComparison:
        for key in table:
            if key not in ("name", "members"):
                self._fail(("comparison", key), f"comparison.{key} is not known{nearest(key, ('name', 'members'))}")
        name, members = table.get("name"), table.get("members", [])
        if not isinstance(name, str) or not name:
            self._fail(("comparison", "name"), "comparison.name: want a word in quotes", place)
        if "members" not in table:
            self._check(("comparison", "name"), find_comparison, name, place=place)
        elif not isinstance(members, list) or not members or not all(isinstance(one, dict) for one in members):
            self._fail(("comparison", "members"), "comparison.members: want a list of tables, [{...}, ...]", place)
        return PlannedComparison(name=name, members=tuple(self._member(member) for member in members))

    def _member(self, member: Mapping[str, Any]) -> dict[str, Any]:
        found = {}
        for key, value in member.items():
            where = ("comparison", "members", key)
            found[key] = self._condition(where, key, value, place=self._seen[key])
            self._seen[key] += 1
        return found

    def _condition(self, where: Keys, key: str, value: Any, known: Collection[str] = CONDITIONS, place: int = 0) -> Any:
        """Check one field by itself; a path is made absolute."""
        self._check(where, check_condition, key, value, known, place=place)
        if key in BINARIES and ("/" in value or key == "kernel"):
            return str((self._path.parent / value).absolute())
        return value

    def _check_cells(self, campaign: Campaign) -> None:
        """Build every cell, so that values which do not go together are told before anything runs."""
        count = 1
        for axis in campaign.grid:
            count *= len(axis.values)
        if count > CELLS_MOST:
            self._fail(("grid",), f"grid: {count} points, want at most {CELLS_MOST}")
        try:
            cells(campaign, {})
        except BadValueError as error:
            fields = re.findall(r"\w+", str(error))
            paths = [path for field in fields if field in FIELDS for path in self._lines if path[-1] == field]
            self._fail(paths[0] if paths else ("grid",), str(error))

    def _table(self, name: str) -> dict[str, Any]:
        found = self._data.get(name, {})
        if not isinstance(found, dict):
            self._fail((name,), f"{name}={found!r}: want a table, [{name}]")
        return dict(found)

    def _check(self, where: Keys, check: Callable[..., T], *arguments: Any, place: int = 0) -> T:
        try:
            return check(*arguments)
        except BadValueError as error:
            self._fail(where, str(error), place)

    def _fail(self, where: Keys, message: str, place: int = 0) -> NoReturn:
        """Refuse, naming the line of `where`, or of what stands around it."""
        lines = next((self._lines[where[:end]] for end in range(len(where), 0, -1) if where[:end] in self._lines), [1])
        raise BadValueError(f"campaign {self._path} line {lines[min(place, len(lines) - 1)]}: {message}")


def _lines_of(text: str) -> dict[Keys, list[int]]:
    """The lines on which each table and key stands, by its path: those of inline tables under the key around them."""
    found: dict[Keys, list[int]] = {}
    table: Keys = ()
    key: Keys = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := HEADER.match(line):
            table = key = _parts(header[1])
            found.setdefault(table, []).append(number)
            continue
        if plain := KEY.match(line):
            key = (*table, *_parts(plain[1]))
            found.setdefault(key, []).append(number)
        for inner in INLINE_KEY.finditer(line):
            found.setdefault((*key, *_parts(inner[1])), []).append(number)
    return found


def _parts(dotted: str) -> Keys:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def _position(message: str, text: str) -> tuple[str, int]:
    """Take the line out of tomllib's message; it is the last one where it says `end of document`."""
    found = re.search(r" \(at line (\d+), column \d+\)$", message)
    if found:
        return message[: found.start()], int(found[1])
    return message.partition(" (at ")[0], max(1, len(text.splitlines()))
