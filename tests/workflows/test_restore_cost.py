"""What checking asks of a restored database: it is done payment by payment, and there are many that lack nothing."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event

from tests.workflows.world import World, now
from workers.restore.check import Check

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOR_ONE_PAYMENT = 13
"""Statements, with what opens the transaction and its savepoint."""


async def test_a_captured_payment_that_lacks_nothing_costs_few_statements(here: World) -> None:
    begun = now().isoformat()
    counts = []
    for _ in range(2):
        await here.pay()
        with statements() as seen:
            asked = Check(here.wired.edge, here.client, query=f'StartTime >= "{begun}"')
            assert (await asked.run(is_repair=False)).gaps == []
        counts.append(len(seen))
    with_one, with_two = counts
    assert with_two - with_one == FOR_ONE_PAYMENT, seen


@contextlib.contextmanager
def statements() -> Iterator[list[str]]:
    """Every statement that any engine of this process is asked meanwhile."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)
