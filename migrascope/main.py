"""The command `migrascope`: parses, calls, and turns our own errors into one line and an exit status."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from migrascope import campaign, history, host, imports, migrations, mirrors, services, stack, upkeep
from migrascope.options import Parser
from workload.errors import MigrascopeError

COMMANDS = (
    *migrations.COMMANDS,
    *campaign.COMMANDS,
    *history.COMMANDS,
    *upkeep.COMMANDS,
    *imports.COMMANDS,
    *host.COMMANDS,
    *mirrors.COMMANDS,
    *services.COMMANDS,
    *stack.COMMANDS,
)


def parser() -> Parser:
    """Build the parser of the whole command line."""
    top = Parser(
        prog="migrascope",
        description="Find out what live migration does to a VM: which strategy to use, when, and at what cost.",
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for command in COMMANDS:
        child = commands.add_parser(command.name, help=command.summary, description=command.summary)
        command.options(child)
        child.set_defaults(action=command.action)
    return top


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", stream=sys.stderr)
    arguments = parser().parse_args(words)
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
