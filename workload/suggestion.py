"""What a mistyped word may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection

LISTED_MOST = 24
"""So many known words are still read; of more, the one that is meant says enough."""


def meant(word: str, known: Collection[str]) -> str:
    """The known word that is nearest: `did you mean 'pause'? `; nothing where none is near."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}? " if close else ""


def nearest(word: str, known: Collection[str]) -> str:
    """Say what a mistyped word may have meant: `; did you mean 'pause'? known: none, pause, ...`."""
    near = meant(word, known)
    if near and len(known) > LISTED_MOST:
        return f"; {near.rstrip()}"
    return f"; {near}known: {', '.join(known)}"
