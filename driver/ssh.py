"""The ssh that reaches a destination's host: which destinations there are, and its command line as a pure function."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from workload.errors import BadValueError

DESTINATION = re.compile(r"(?:ssh://)?[A-Za-z0-9_][A-Za-z0-9_.@:%\[\]-]*")
CONNECT_SECONDS = 10
ALIVE_SECONDS, ALIVE_TIMES = 2, 3
"""A link that says nothing for 6 to 8 s is lost."""

OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": CONNECT_SECONDS,
    "ServerAliveInterval": ALIVE_SECONDS,
    "ServerAliveCountMax": ALIVE_TIMES,
    # a connection of the run's own: in a shared one our forwarded sockets would outlive the run
    "ControlMaster": "no",
    "ControlPath": "none",
    "ExitOnForwardFailure": "yes",
    "StreamLocalBindMask": "0177",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "EscapeChar": "none",
}


def check_destination(word: str) -> str:
    """Check an ssh destination: a host or an alias of the user's configuration, `user@host`, or `ssh://user@host:port`.

    Raises:
        BadValueError: it could be taken for an option, or holds characters that no destination has.
    """
    if not DESTINATION.fullmatch(word):
        raise BadValueError(
            f"destination host {word!r}: want an ssh destination, as host, user@host or ssh://host:port"
        )
    return word


def ssh_command(destination: str, forwarded: Mapping[Path, Path], words: Sequence[str]) -> list[str]:
    """Write the command line: `forwarded` maps unix sockets here to those there, `words` is what is executed there.

    Everything else is as the user's own configuration has it.
    """
    line = ["ssh", "-T"]
    for name, value in OPTIONS.items():
        line += ["-o", f"{name}={value}"]
    for here, there in forwarded.items():
        line += ["-L", f"{here}:{there}"]
    return [*line, "--", destination, *words]
