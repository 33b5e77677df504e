"""Payments of one merchant share a balance: what one's refund took, another's settlement may have brought in.

The merchant pays our fee of a refunded payment too, so to refund all of one takes some of another's money.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.workflows.earlier import check, copy_of, copying, on, rows
from tests.workflows.world import World, now

pytestmark = pytest.mark.asyncio(loop_scope="session")

ALL = 10_000


async def refunds_all_of_the_first(here: World) -> None:
    await refunds_all_of_one(here, 0)


async def refunds_all_of_the_second(here: World) -> None:
    await refunds_all_of_one(here, 1)


async def refunds_all_of_one(here: World, which: int) -> None:
    ids = [(await here.pay()).id for _ in range(2)]
    await here.settle()
    for payment_id in ids:
        await here.handle(payment_id).result()
    refund = await here.refund(ids[which], ALL)
    assert refund.status == "succeeded"


async def is_refused_for_want_of_money_that_comes_later(here: World) -> None:
    """The money is an older payment's, which is repaired before the newer one whose refund was refused."""
    older = await here.authorize()
    newer = await here.pay()
    await here.settle()
    await here.handle(newer.id).result()
    refund_id = await here.accept_refund(newer.id, ALL)
    await here.start_refund(refund_id)
    answer = await here.refund_handle(refund_id).result()
    assert answer["refused"] == "insufficient_available"
    await here.capture(older.id)
    await here.settle()
    await here.handle(older.id).result()


@pytest.mark.parametrize(
    "scenario",
    [refunds_all_of_the_first, refunds_all_of_the_second, is_refused_for_want_of_money_that_comes_later],
    ids=lambda it: it.__name__,
)
async def test_what_one_payment_owes_to_another_is_made_again_and_nothing_is_stopped(
    here: World, tmp_path: Path, scenario: Callable[[World], Awaitable[None]]
) -> None:
    begun = now().isoformat()
    with copying(here, tmp_path) as copies:
        await scenario(here)
    ended = await here.database.read(rows)
    for url in copies.urls:
        async with on(here, url) as edge:
            repaired = await check(here, edge, begun, is_repair=True)
            assert repaired.left == [], "; ".join(map(str, repaired.left))
            assert repaired.stopped == []
            again = await edge.database.read(rows)
            for table, wanted in ended.items():
                assert again[table] == wanted, (table, url)
            second = await check(here, edge, begun, is_repair=False)
            assert second.gaps == [], [str(gap) for gap in second.gaps]


async def test_a_check_says_that_a_refund_took_what_other_payments_brought_in(
    here: World, tmp_path: Path
) -> None:
    begun = now().isoformat()
    before = copy_of(here.database.url, tmp_path / "before.db")
    await refunds_all_of_the_first(here)
    async with on(here, before) as edge:
        checked = await check(here, edge, begun, is_repair=False)
        (left,) = checked.left
        assert "other payments" in left.found, left
