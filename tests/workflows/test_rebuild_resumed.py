"""Runs that were lost and resumed, and clocks that differ: whichever run is read first, the rows are those that stand."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select
from temporalio import activity
from temporalio.client import WorkflowUpdateStage

from activities.contracts import Executed
from corridor.domain.money import Money
from corridor.domain.payment import RefundStatus
from corridor.runtime.histories import of_workflows
from corridor.storage import refunds
from corridor.storage.database import Database
from corridor.storage.tables import settlement_lines
from tests.workflows.lost import resumed
from tests.workflows.told import Told, told_now, told_since
from tests.workflows.world import World, now
from workers.rebuild import rebuild
from workers.rebuild.fold import Books
from workers.rebuild.rebuild import Rebuilt
from workflows import names
from workflows.messages import ReviewCommand

pytestmark = pytest.mark.asyncio(loop_scope="session")

AN_HOUR = timedelta(hours=1)
NO_TIME = timedelta(0)
FOR_EVER = 1000
Meanwhile = Callable[[], Awaitable[Any]]


async def _is_told(told: Told) -> None:
    """Every row, and nothing that belongs to nothing."""
    found = await told.compared()
    assert told.rebuilt.problems == []
    assert [str(difference) for table in found.tables for difference in table.differences] == []
    assert found.ahead == []
    assert told.rebuilt.holds


async def _lose_and_resume(here: World, payment_id: str) -> None:
    await here.handle(payment_id).terminate("the server was lost")
    assert (await resumed(here)).started == (payment_id,)


def _once_written(here: World, patch: pytest.MonkeyPatch, is_it: Callable[..., bool], do: Meanwhile) -> None:
    """After the first transaction that `is_it`, and before its step is answered."""
    database, left = here.wired.edge.database, [is_it]
    write = database.write

    async def writing(step: Any, *args: Any, **kwargs: Any) -> Any:
        result = await write(step, *args, **kwargs)
        if left and is_it(step, result):
            left.clear()
            await do()
        return result

    patch.setattr(database, "write", writing)


async def test_an_undo_that_the_resumed_run_proved_was_declared_by_the_lost_one(
    here: World, tmp_path: Path
) -> None:
    began = now()
    payment = await here.authorize()
    await here.plant("reset_before_effect", "payment_intents.cancel", times=FOR_EVER)
    canceling = asyncio.create_task(here.cancel(payment.id))
    await here.under_way("reset_before_effect")
    await here.handle(payment.id).terminate("the server was lost")
    await asyncio.wait([canceling])
    assert canceling.exception() is not None
    await here.heal()
    assert (await resumed(here)).started == (payment.id,)
    await here.until(payment.id, "canceled")
    assert ("void:1", "approved") in await here.effects(payment.id)
    await _is_told(await told_since(here, tmp_path, began))


async def test_a_review_that_the_lost_run_opened_was_decided_in_the_resumed_one(
    here: World, tmp_path: Path
) -> None:
    began = now()
    payment = await here.pay(amount=Money(600_000, "EUR"))
    await _lose_and_resume(here, payment.id)
    await here.decide(payment.id, "decline")
    await here.until(payment.id, "failed")
    await _is_told(await told_since(here, tmp_path, began))


async def test_what_became_of_something_no_history_begins_with_is_named(here: World, tmp_path: Path) -> None:
    """The first run's history has expired: who decided is told, and not what."""
    payment = await here.pay(amount=Money(600_000, "EUR"))
    review = await here.review(payment.id)
    await _lose_and_resume(here, payment.id)
    await here.decide(payment.id, "decline")
    await here.until(payment.id, "failed")
    found, target = Rebuilt(Books()), Database(f"sqlite:///{tmp_path / 'rebuilt.db'}")
    newest = of_workflows(here.client, [names.payment_workflow_id(payment.id)])
    await rebuild.fold(newest, here.client.data_converter, found)
    try:
        await rebuild.write(found, target, here.wired.edge.providers)
    finally:
        await target.close()
    problem = f"payment-{payment.id} tells that ana decided review {review.id}, which no history opens"
    assert problem in found.problems
    assert not found.holds


async def test_a_review_that_was_opened_by_a_clock_that_is_ahead_was_decided(
    here: World, tmp_path: Path
) -> None:
    """By the clocks, it was decided before it was opened."""
    began = now()
    here.clock_of_workers(AN_HOUR)
    # At home: where money is converted, the database's clock is asked.
    at_home = {"settle_currency": "EUR", "destination_country": "DE"}
    payment = await here.pay(amount=Money(600_000, "EUR"), **at_home)
    here.clock_of_workers(NO_TIME)
    await here.decide(payment.id, "decline")
    await here.until(payment.id, "failed")
    await _is_told(await told_since(here, tmp_path, began))


async def test_a_review_that_was_decided_by_a_clock_that_is_ahead_was_decided_by_the_person(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clocks, the sale that was approved by it was proven before."""
    began = now()
    payment = await here.pay(amount=Money(600_000, "EUR"))

    async def another_worker_goes_on() -> None:
        here.clock_of_workers(NO_TIME)

    _once_written(here, monkeypatch, lambda step, _: step.__name__ == "_decide", another_worker_goes_on)
    here.clock_of_workers(AN_HOUR)
    await here.decide(payment.id, "approve")
    await here.until(payment.id, "captured")
    await _is_told(await told_since(here, tmp_path, began))


async def test_a_decision_that_evidence_was_quicker_than_ended_nothing(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered all the same, and its step tells when the review had ended."""
    began = now()
    payment = await here.pay()
    here.without_keys()
    await here.plant("timeout_after_effect", "refunds.create")
    await here.plant("status", "refunds.list", times=FOR_EVER, status=503)
    refund = await here.refund(payment.id, 4_000)
    assert refund.status == RefundStatus.REQUIRES_REVIEW
    review = await here.review(refund.id)
    command = ReviewCommand(review_id=review.id, decision="found", decided_by="ana", note="seen by hand")
    said: list[Any] = []

    async def a_person_says_so() -> None:
        update = await here.refund_handle(refund.id).start_update(
            names.DECIDE_REVIEW, command, wait_for_stage=WorkflowUpdateStage.ACCEPTED
        )
        said.append(update)

    _once_written(here, monkeypatch, lambda _, result: _is_refunded(result), a_person_says_so)
    await here.heal()
    await here.refund_handle(refund.id).signal(names.PROVIDER_HINT, {"provider_event_id": "evt_1"})
    async with asyncio.timeout(30):
        while not said:
            await asyncio.sleep(0.1)
        await said[0].result()
    assert (await here.database.read(refunds.load, refund.id)).status == RefundStatus.SUCCEEDED
    await _is_told(await told_since(here, tmp_path, began))


def _is_refunded(result: Any) -> bool:
    return isinstance(result, Executed) and result.refund_status is RefundStatus.SUCCEEDED


async def test_a_settlement_row_that_the_lost_run_alone_was_told_of_is_to_be_told(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next import tells the resumed run, and closes the batch once more."""
    began = now()
    payment = await here.pay()
    _never_settled_by(here, monkeypatch, (await here.handle(payment.id).describe()).run_id)
    await here.settle()
    assert await here.database.read(_states, payment.id) == ["signaled"]
    await _lose_and_resume(here, payment.id)
    assert await here.database.read(_states, payment.id) == ["staged"]
    await _until_both_runs_are_listed(here, payment.id)
    await _is_told(await told_now(here, tmp_path, began))
    await here.import_settlement()
    await here.until(payment.id, "settled")
    await _is_told(await told_since(here, tmp_path, began))


async def _until_both_runs_are_listed(here: World, payment_id: str) -> None:
    """The new one tells no event, so nothing that the database tells more of gives it away."""
    query = f'WorkflowId = "{names.payment_workflow_id(payment_id)}"'
    async with asyncio.timeout(30):
        while (await here.client.count_workflows(query)).count < 2:
            await asyncio.sleep(0.1)


class NotNow(Exception):
    """A step that is taken again and again, in a run that was terminated for a while after that too."""


def _never_settled_by(here: World, patch: pytest.MonkeyPatch, run_id: str) -> None:
    database = here.wired.edge.database
    write = database.write

    async def refusing(step: Any, *args: Any, **kwargs: Any) -> Any:
        if step.__name__ == "_settle" and activity.info().workflow_run_id == run_id:
            raise NotNow
        return await write(step, *args, **kwargs)

    patch.setattr(database, "write", refusing)


def _states(connection: Connection, payment_id: str) -> list[str]:
    of_payment = select(settlement_lines.c.state).where(settlement_lines.c.payment_id == payment_id)
    return list(connection.execute(of_payment).scalars())
