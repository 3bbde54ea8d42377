"""Settings as frozen values: each field carries its unit, help and bounds once, for checks, options and records."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from workload.errors import BadValueError
from workload.suggestion import meant

T = TypeVar("T")

YOUNGER: Mapping[str, Any] = {"younger": True}
"""Metadata of a field that is younger than some records of its class: where one lacks it, its default held."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is known of one field: its unit, its help, and which values it may take.

    `low` and `high` bound numbers (both included); `zero` also admits 0, which then means "off";
    `choices` lists the words a string field may hold.
    """

    unit: str
    help: str
    group: str
    low: float | None = None
    high: float | None = None
    zero: bool = False
    choices: tuple[str, ...] = ()


def setting(default: Any, **facts: Any) -> Any:
    """Return a dataclass field that carries a `Setting`; the keywords are the fields of `Setting`."""
    return dataclasses.field(default=default, metadata={"setting": Setting(**facts)})


def settings_of(kind: type[Any]) -> Mapping[str, tuple[type[Any], Any, Setting]]:
    """Map each field name of a value class to (its plain type, its default, its `Setting`)."""
    return _settings(typing.cast("Any", kind))


def check_settings(value: Any) -> None:
    """Check every field of a value against its type and bounds.

    Raises:
        BadValueError: naming class, field, the value found and what was wanted.
    """
    for name in settings_of(type(value)):
        check_field(type(value), name, getattr(value, name))


def check_field(owner: type[Any], name: str, found: Any) -> None:
    """Check what one field of a value class is to hold, by itself.

    Raises:
        BadValueError: naming class, field, the value found and what was wanted.
    """
    kind, _, facts = settings_of(owner)[name]
    subject = owner.__name__.lower()
    where = f"{subject}.{name}={found!r}" if isinstance(found, str) else f"{subject}.{name}={found}"
    if found is None and _optional(owner, name):
        return
    if isinstance(found, bool) is not (kind is bool) or not isinstance(found, (int, float) if kind is float else kind):
        raise BadValueError(f"{where}: want {described(kind)}")
    if facts.choices and found not in facts.choices:
        raise BadValueError(f"{where}: {meant(str(found), facts.choices)}want one of {', '.join(facts.choices)}")
    if kind in (int, float) and not _within(found, facts):
        raise BadValueError(f"{where}: want {bounds(facts)}")


def bounds(facts: Setting) -> str:
    """Say in words which numbers a setting takes: `0 (off) or 1 to 1048576 MiB/s`."""
    low = f"{facts.low:.10g}" if facts.low is not None else None
    high = f"{facts.high:.10g}" if facts.high is not None else None
    span = f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}" if high else "any"
    return f"{'0 (off) or ' if facts.zero else ''}{span} {facts.unit}".strip()


def described(kind: type[Any]) -> str:
    """Say in words what a setting of this type takes: `a whole number`."""
    return {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}.get(kind, kind.__name__)


def parse_word(kind: type[Any], word: str) -> Any:
    """Read a setting's value from a word of the command line: `true` and `false` where the field is one of the two.

    Raises:
        ValueError: it is no such value.
    """
    if kind is not bool:
        return kind(word)
    if word.lower() not in ("true", "false"):
        raise ValueError(word)
    return word.lower() == "true"


def to_json(value: Any) -> dict[str, Any]:
    """Write a value as a JSON object with all its fields."""
    return dataclasses.asdict(value)


def from_json(kind: type[T], data: object, where: str) -> T:
    """Read a value back, strictly: a missing or unknown key is an error that names it and `where`.

    A setting, or a field marked `YOUNGER`, may be missing: it came after the record was written, and its default is
    what held then.

    Raises:
        BadValueError: the keys do not match the class, or a value is out of its bounds.
    """
    if not isinstance(data, dict):
        raise BadValueError(f"{where}: want an object, found {type(data).__name__}")
    wanted = {field.name: field for field in dataclasses.fields(typing.cast("Any", kind))}
    if unknown := sorted(set(data) - set(wanted)):
        raise BadValueError(f"{where}: unknown key {unknown[0]!r}")
    if missing := sorted(
        name for name in set(wanted) - set(data) if not {"setting", "younger"} & {*wanted[name].metadata}
    ):
        raise BadValueError(f"{where}: key {missing[0]!r} is missing")
    return kind(**data)


def _within(found: float, facts: Setting) -> bool:
    if facts.zero and found == 0:
        return True
    return found == found and (facts.low is None or found >= facts.low) and (facts.high is None or found <= facts.high)


@functools.cache  # values are made by the hundred before a command's first word is read
def _settings(kind: type[Any]) -> Mapping[str, tuple[type[Any], Any, Setting]]:
    hints = _hints(typing.cast("Any", kind))
    return {
        field.name: (_plain(hints[field.name]), field.default, field.metadata["setting"])
        for field in dataclasses.fields(kind)
        if "setting" in field.metadata
    }


@functools.cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _optional(kind: type[Any], name: str) -> bool:
    return type(None) in typing.get_args(_hints(typing.cast("Any", kind))[name])


def _plain(hint: Any) -> type[Any]:
    if isinstance(hint, types.UnionType):
        return typing.cast("type[Any]", next(arm for arm in typing.get_args(hint) if arm is not type(None)))
    return typing.cast("type[Any]", hint)
