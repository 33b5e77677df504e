"""A step whose worker dies between its commit and its answer, with something that happens before it is taken again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Connection, Table, select

from activities import preparation
from corridor.domain.payment import StatusReason
from corridor.storage import payments, tables
from tests.workflows.world import World, now


class WorkerKilled(Exception):
    """What Temporal sees of a step whose worker died: no answer."""


def kill_after(
    here: World, monkeypatch: pytest.MonkeyPatch, work: str, meanwhile: Callable[[], Awaitable[None]]
) -> None:
    """The first transaction of this name commits, `meanwhile` happens, and its step is never answered."""
    database, left = here.wired.edge.database, [work]
    write = database.write

    async def killed(step: Any, *args: Any, **kwargs: Any) -> Any:
        result = await write(step, *args, **kwargs)
        if step.__name__ in left:
            left.clear()
            await meanwhile()
            raise WorkerKilled
        return result

    monkeypatch.setattr(database, "write", killed)


def kill_each(here: World, monkeypatch: pytest.MonkeyPatch, *works: str) -> list[str]:
    """Every transaction of these names commits, and the first time of each its step is never answered.

    Returns the names of those that were killed, as it happens.
    """
    database, seen, killed = here.wired.edge.database, set[str](), list[str]()
    write = database.write

    async def kill(step: Any, *args: Any, **kwargs: Any) -> Any:
        result = await write(step, *args, **kwargs)
        wanted = f"{step.__name__} {args[0]!r}"
        if step.__name__ in works and wanted not in seen:
            seen.add(wanted)
            killed.append(step.__name__)
            raise WorkerKilled
        return result

    monkeypatch.setattr(database, "write", kill)
    return killed


async def at_rest(here: World) -> None:
    """Wait until no workflow has anything under way: what a killed step committed is seen before its repeat has told."""
    handles = [*map(here.handle, await here.database.read(_ids, tables.payments))]
    handles += map(here.refund_handle, await here.database.read(_ids, tables.refunds))
    async with asyncio.timeout(60):
        while any([await _is_busy(handle) for handle in handles]):
            await asyncio.sleep(0.1)


async def _is_busy(handle: Any) -> bool:
    told = (await handle.describe()).raw_description
    return bool(told.pending_activities) or told.HasField("pending_workflow_task")


def _ids(connection: Connection, table: Table) -> list[str]:
    return list(connection.execute(select(table.c.id)).scalars())


async def nothing() -> None:
    """Between the kill and the repeat nothing else happens."""


def find_no_rate(connection: Connection, payment_id: str) -> None:
    """The payment fails, as its preparation ends where nobody offers a rate."""
    payment = payments.lock(connection, payment_id)
    preparation.fail(connection, payment, StatusReason.RATE_UNAVAILABLE, now())
