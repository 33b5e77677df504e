"""Finishing what was begun: a Temporal cancel is a wish, told to the story; it never breaks the story off."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError

from corridor.domain.failure import broken


async def finish(story: Coroutine[Any, Any, None], on_cancel: Callable[[], None]) -> None:
    """Run `story` to its end whatever is canceled meanwhile; `on_cancel` lets it know.

    Raises `InvariantBroken` for a step that failed although none of its failures is final: that parks the workflow.
    """
    work = asyncio.ensure_future(_parking(story))
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            if workflow.cancellation_reason() is None:
                raise  # the worker is dropping its cache; nothing was asked of us
            on_cancel()
    work.result()  # the story may have ended badly in the very task that brought the cancel


async def every_command_answered() -> None:
    """Wait until each update that came in has its answer.

    An update that arrived with the very last task has not begun when the story ends, and is not counted yet; so it
    gets its turn first, or its caller would hear that the workflow is gone (temporalio/sdk-python#1591).
    """
    await asyncio.sleep(0)
    await workflow.wait_condition(workflow.all_handlers_finished)


async def _parking(story: Coroutine[Any, Any, None]) -> None:
    try:
        await story
    except FailureError as error:
        # A regular activity fails inside an ActivityError, a local one with its bare ApplicationError.
        broken(f"a step without an expected failure failed: {error.cause or error}")
