"""Running one coroutine while others watch over it: whichever watcher raises first ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def race(body: Coroutine[Any, Any, T], *watchers: Coroutine[Any, Any, None]) -> T:
    """Return what `body` returns, or raise what it or the first failing watcher raises.

    A watcher that merely returns has nothing more to say. All are over when this returns.
    """
    main = asyncio.create_task(body)
    waiting = {asyncio.create_task(watcher) for watcher in watchers}
    everyone = {main, *waiting}
    try:
        while not main.done():
            done, _ = await asyncio.wait({main, *waiting}, return_when=asyncio.FIRST_COMPLETED)
            for watcher in done - {main}:
                waiting.discard(watcher)
                if not main.done():
                    watcher.result()
        return main.result()
    finally:
        for task in everyone:
            task.cancel()
        await asyncio.gather(*everyone, return_exceptions=True)
