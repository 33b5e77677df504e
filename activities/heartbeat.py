"""Signs of life of a longer activity, so that the server notices a lost worker long before the activity's limit."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from temporalio import activity

BEAT_SECONDS = 3.0


@contextlib.asynccontextmanager
async def beating() -> AsyncIterator[None]:
    """Heartbeat every few seconds while the block runs; it stops with the process, which is the point."""
    beats = asyncio.create_task(_beat())
    try:
        yield
    finally:
        beats.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beats


async def _beat() -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(BEAT_SECONDS)
