"""Some things at once, and no more: what a server or a database is asked for hundreds of rows."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def side_by_side(
    items: Iterable[Item], one: Callable[[Item], Awaitable[Result]], at_once: int
) -> list[tuple[Item, Result]]:
    """`one` for every item, at most `at_once` under way; each item with what came of it, in the order given.

    Raises what the first that failed raised, after those under way beside it are cancelled: nothing goes on behind
    the caller's back, and no further item is begun.
    """
    waiting = enumerate(items)
    done: dict[int, tuple[Item, Result]] = {}
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(_work_off(waiting, one, done))
    except BaseExceptionGroup as failed:
        # The group is how the tasks are kept together here; callers know the errors of `one`.
        raise failed.exceptions[0] from None
    return [done[index] for index in sorted(done)]


async def _work_off(
    waiting: Iterator[tuple[int, Item]],
    one: Callable[[Item], Awaitable[Result]],
    done: dict[int, tuple[Item, Result]],
) -> None:
    for index, item in waiting:
        done[index] = item, await one(item)
