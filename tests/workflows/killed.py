"""A step whose worker dies between its commit and its answer, with something that happens before it is taken again."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Connection

from activities import preparation
from corridor.domain.payment import StatusReason
from corridor.storage import payments
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


async def nothing() -> None:
    """Between the kill and the repeat nothing else happens."""


def find_no_rate(connection: Connection, payment_id: str) -> None:
    """The payment fails, as its preparation ends where nobody offers a rate."""
    payment = payments.lock(connection, payment_id)
    preparation.fail(connection, payment, StatusReason.RATE_UNAVAILABLE, now())
