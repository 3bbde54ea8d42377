"""The cache directory: the initrd, kernels, and whatever else can be built or fetched again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return `$MIGRASCOPE_CACHE`, else `$XDG_CACHE_HOME/migrascope`, else `~/.cache/migrascope`; it may not exist."""
    if own := os.environ.get("MIGRASCOPE_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "migrascope"
