"""What a source is: something that is opened, hands on batches of samples, and can be read to its end."""

from __future__ import annotations

from collections.abc import Callable
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

    async def follow(self, take: Callable[[Batch], None]) -> None:
        """Hand on what is seen, as it is seen; ends only by raising."""

    async def rest(self) -> Batch:
        """What can be seen now and has not been handed on yet: asked once, at a run's end."""
