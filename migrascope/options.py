"""Options of the command line, made from the values' own settings, and turned back into values."""

from __future__ import annotations

import argparse
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from driver.datadir import DataDir
from driver.hardware import Hardware
from driver.scenario import STRATEGIES, Scenario, strategy_fields
from driver.settle import Settle
from driver.watch import Mirroring, Sampling
from exporter.mirror.destination import destinations_of
from workload.errors import BadValueError
from workload.settings import WORKLOADS, Workload
from workload.suggestion import meant, nearest
from workload.value import Setting, bounds, described, parse_word, settings_of

T = TypeVar("T")
M = TypeVar("M", bound=Mirroring)

SHORT = {"accelerator": "accel"}
"""Fields whose option is not simply their name."""


SWITCHES = {
    "auto_converge_": "auto_converge_increment",
    "compress_": "compress_threads",
    "dirty_limit_": "dirty_limit_mib_s",
    "multifd_": "multifd_channels",
}
"""The beginning of a strategy's settings -> the one that turns the strategy on."""


class Parser(argparse.ArgumentParser):
    """An argument parser that meets a mistake with one line and exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with 2."""
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse words that nothing takes, here where the options that may have been meant are known."""
        found, left = super().parse_known_args(args, namespace)
        if left:
            word, options = left[0].partition("=")[0], [*self._option_string_actions]
            kind = "option" if word.startswith("-") else "word"
            self.error(f"{kind} {word!r} is not known here; {meant(word, options)}".rstrip("; "))
        return found, left

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a word that is not among an argument's choices, naming the one that may have been meant."""
        if action.choices is not None and value not in action.choices:
            known = [str(each) for each in action.choices]
            name = (action.dest if action.option_strings or action.metavar is None else str(action.metavar)).lower()
            raise argparse.ArgumentError(None, f"{name} {value!r} is not known{nearest(str(value), known)}")


class UsualWorkload(argparse.Action):
    """Takes a workload's name for its usual settings; an option of one of them wins, wherever it stands."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, _: str | None = None
    ) -> None:
        """Set what no option has set yet; a later option overrides it."""
        if values not in WORKLOADS:
            parser.error(f"workload {values!r} is not known{nearest(values, WORKLOADS)}")
        for name, value in WORKLOADS[values].items():
            if not hasattr(namespace, name):
                setattr(namespace, name, value)


def add_value_options(parser: argparse.ArgumentParser, kind: type[Any], only: tuple[str, ...] = ("",)) -> None:
    """Add one option for each setting of a value class, grouped, with unit, bounds and default in its help.

    `only` names the beginnings of the settings that are wanted.
    """
    groups: dict[str, Any] = {}
    for name, (plain, default, facts) in settings_of(kind).items():
        if not name.startswith(only):
            continue
        if facts.group not in groups:
            groups[facts.group] = parser.add_argument_group(facts.group)
        how: dict[str, Any] = (
            {"action": argparse.BooleanOptionalAction}
            if plain is bool
            else {"type": reader(plain, facts), "metavar": _metavar(plain, facts)}
        )
        groups[facts.group].add_argument(
            f"--{option_name(name)}",
            dest=name,
            default=argparse.SUPPRESS,
            help=f"{facts.help} (default {_default(default)}{_bounds(plain, facts)})",
            **how,
        )


def reader(plain: type[Any], facts: Setting) -> Callable[[str], Any]:
    """What reads an option's word for argparse; a word that is none of its type is met with what is wanted."""

    def read(word: str) -> Any:
        try:
            return plain(word)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{word!r}: want {described(plain)}, {bounds(facts)}") from None

    return read


def option_name(field: str) -> str:
    """The option of a field, without its dashes in front: `bandwidth-mib-s`, `accel`."""
    return SHORT.get(field, field).replace("_", "-")


def value_from(kind: type[T], arguments: argparse.Namespace, **more: Any) -> T:
    """Build a value from the options that were given; `more` are defaults that an option overrides.

    Raises:
        BadValueError: a value is out of its bounds.
    """
    given = {name: getattr(arguments, name) for name in settings_of(kind) if hasattr(arguments, name)}
    return kind(**(more | given))


def words_of(value: Any) -> list[str]:
    """Write a value as options, `value_from`'s inverse; fields that hold their defaults are left out."""
    words = []
    for name, (plain, default, _) in settings_of(type(value)).items():
        found = getattr(value, name)
        if found == default or found is None:
            continue
        if plain is bool:
            words.append(f"--{'' if found else 'no-'}{option_name(name)}")
        else:
            words.append(f"--{option_name(name)}={found}")
    return words


def mirroring_from(kind: type[M], arguments: argparse.Namespace) -> M:
    """Build a value that says where samples are mirrored to; paths become absolute, for the exporter stands elsewhere.

    Raises:
        BadValueError: a destination cannot be used, or its token cannot be read.
    """
    asked = value_from(kind, arguments)
    paths = {
        name: str(Path(path).absolute())
        for name in ("influx_token_file", "remote_write_token_file")
        if (path := getattr(asked, name)) is not None
    }
    asked = replace(asked, **typing.cast("dict[str, typing.Any]", paths))
    for destination in destinations_of(asked):
        destination.token()
    return asked


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command that runs migrations takes."""
    group = parser.add_argument_group("guest and binaries")
    group.add_argument("--qemu", default="qemu-system-x86_64", metavar="BINARY", help="QEMU (default %(default)s)")
    group.add_argument("--destination-qemu", metavar="BINARY", help="the destination's QEMU (default: the source's)")
    group.add_argument(
        "--destination-host",
        metavar="HOST",
        help="run the destination there, over ssh: host, user@host or ssh://host:port",
    )
    group.add_argument(
        "--destination-address", metavar="ADDRESS", help="where the source reaches it (default: where ssh does)"
    )
    group.add_argument("--kernel", type=Path, metavar="PATH", help="the guest's kernel (default: found by itself)")
    group.add_argument(
        "--warm-start", action="store_true", help="boot and settle once, then restore the saved guest for each run"
    )
    group.add_argument(
        "--workload", action=UsualWorkload, default=argparse.SUPPRESS, metavar="NAME",
        help=f"a workload's usual settings, over which other options go: {', '.join(WORKLOADS)}",
    )  # fmt: skip
    for kind in (Hardware, Workload, Scenario, Settle, Sampling):
        add_value_options(parser, kind)


def add_common_options(parser: argparse.ArgumentParser, *, json: bool = True) -> None:
    """Add what nearly every command takes: where the data is, and JSON for programs."""
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="history and live runs (default $XDG_STATE_HOME/migrascope)"
    )
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def data_dir(arguments: argparse.Namespace) -> DataDir:
    """Open the data directory that was asked for."""
    return DataDir.open(arguments.data_dir)


def scenario_from(arguments: argparse.Namespace, spec: str | None = None) -> Scenario:
    """Build a scenario: `STRATEGY[:field=value,...]`, over the options given, over the strategy's usual values.

    Raises:
        BadValueError: strategy, field or value is not known or out of bounds.
    """
    name, _, rest = ("none" if spec is None else spec).partition(":")
    return value_from_pairs(strategy_fields(name), arguments, rest)


def value_from_pairs(usual: Mapping[str, Any], arguments: argparse.Namespace, pairs: str) -> Scenario:
    """Build a scenario from usual values, then options, then `field=value` pairs, the later ones winning."""
    known = settings_of(Scenario)
    given = {name: getattr(arguments, name) for name in known if hasattr(arguments, name)}
    for pair in filter(None, pairs.split(",")):
        field, equals, word = pair.partition("=")
        field = field.strip().replace("-", "_")
        if field not in known or not equals:
            near = "" if field in known else meant(field, known)
            raise BadValueError(f"scenario: {pair!r}: {near}want field=value with one of {', '.join(known)}")
        try:
            given[field] = parse_word(known[field][0], word)
        except ValueError as error:
            wanted = described(bool) if known[field][0] is bool else bounds(known[field][2])
            raise BadValueError(f"scenario.{field}={word!r}: want {wanted}") from error
    return Scenario(**(dict(usual) | given))


def idle_settings(arguments: argparse.Namespace, scenario: Scenario) -> list[str]:
    """Name the options that were given and change nothing, with what they wait for.

    Only `run` tells them: in a comparison they are for the members that have their strategy on.
    """
    found = []
    for beginning, switch in SWITCHES.items():
        given = [name for name in settings_of(Scenario) if name.startswith(beginning) and hasattr(arguments, name)]
        if given and switch not in given and not getattr(scenario, switch):
            options = ", ".join(f"--{option_name(name)}" for name in given)
            found.append(f"{options}: changes nothing without --{option_name(switch)}")
    return found


def strategies_in_words() -> str:
    """List the strategies for help texts."""
    return ", ".join(STRATEGIES)


def note(message: str) -> None:
    """Say something to a person, on stderr: stdout is data."""
    sys.stderr.write(f"{message}\n")


def _metavar(plain: type[Any], facts: Setting) -> str:
    if facts.choices:
        return "|".join(facts.choices)
    return facts.unit.replace(" ", "-") or {int: "N", float: "N", str: "WORD"}[plain]


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value in (None, "") else str(value)


def _bounds(plain: type[Any], facts: Setting) -> str:
    return f"; {bounds(facts)}" if plain in (int, float) else ""
