"""The command `migrascope`: parses, calls, and turns our own errors into one line and an exit status."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence

from migrascope.command import Command
from migrascope.options import Parser
from workload.errors import MigrascopeError

MODULES: dict[str, tuple[str, ...]] = {
    "migrations": ("run", "compare"),
    "campaign": ("campaign",),
    "history": ("runs", "show", "query", "report"),
    "upkeep": ("history",),
    "imports": ("import",),
    "host": ("doctor", "list"),
    "mirrors": ("mirror",),
    "exports": ("export",),
    "services": ("exporter", "dashboards"),
    "stack": ("stack",),
}
"""Each module of commands, and their names: only that of the command that is asked for is imported.

All of them take 0.7 s, Plotly, SciPy and pyarrow included; a list of runs needs none of that.
"""


def parser(asked: str | None = None) -> Parser:
    """Build the parser of the whole command line, or of the one command that is asked for."""
    top = Parser(
        prog="migrascope",
        description="Find out what live migration does to a VM: which strategy to use, when, and at what cost.",
        epilog="First steps: `migrascope doctor`, `migrascope compare demo`, `migrascope show latest`.",
    )
    top.add_argument("--version", action=_Version, help="print the version and end")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for command in _commands(asked):
        child = commands.add_parser(command.name, help=command.summary, description=command.summary)
        command.options(child)
        child.set_defaults(action=command.action)
    return top


class _Version(argparse.Action):
    """Prints the version, and the commit of a checkout; asked of git only when wanted."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:  # noqa: A002 - argparse's name
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it and end."""
        from importlib import metadata  # noqa: PLC0415 - with driver.facts 0.05 s, which no other command pays

        from driver.facts import git_revision  # noqa: PLC0415

        commit = git_revision()
        sys.stdout.write(f"migrascope {metadata.version('migrascope')}{f' ({commit[:12]})' if commit else ''}\n")
        parser.exit(0)


def _commands(asked: str | None) -> Iterator[Command]:
    wanted = [module for module, names in MODULES.items() if asked in names] or list(MODULES)
    for module in wanted:
        yield from importlib.import_module(f"migrascope.{module}").COMMANDS


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", stream=sys.stderr)
    words = sys.argv[1:] if words is None else words
    arguments = parser(words[0] if words else None).parse_args(words)
    try:
        return int(arguments.action(arguments))
    except MigrascopeError as error:
        sys.stderr.write(f"migrascope: {error}\n")
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # the reader of our output has gone (a pager, head): nothing is wrong, and nothing more can be said
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
