"""Starting a process that outlives us: in a session of its own, which no signal to our terminal reaches."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path


def start_detached(words: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> int:
    """Start a program whose stdout and stderr are appended to `log`; returns its process id.

    It is our child until we end: who waits for its end must reap it. OSError passes through.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        words[0],
        list(words),
        os.environ if environment is None else environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
