"""What a source is: something that is opened, yields batches of samples, and can be read to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Protocol, Self

from exporter.journal import Batch


class Source(Protocol):
    """One followed thing of one QEMU or run. Whatever it raises ends it until it is opened anew."""

    name: str
    role: str

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def batches(self) -> AsyncIterator[Batch]:
        """Yield what is seen, for as long as the source is open."""

    async def rest(self) -> Batch:
        """What can be seen now and has not been yielded yet: asked once, at a run's end."""
