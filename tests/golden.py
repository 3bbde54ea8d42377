"""Golden files: what was agreed on, in tests/golden; `pytest --update` writes them anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).with_name("golden")


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Compares a text with its golden file, or writes the file where an update was asked for."""

    update: bool

    def check(self, name: str, found: str) -> None:
        """Fail where the text is not that of the golden file."""
        path = FOLDER / name
        if self.update:
            path.parent.mkdir(exist_ok=True)
            path.write_text(found)
        assert path.exists(), f"{path} is missing: run pytest --update"
        assert found == path.read_text(), f"{path} differs: read the change, then run pytest --update"
