"""A payment that no repair could bring up was resumed from the database; the next repair leaves its new workflow alone."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from temporalio.client import WorkflowExecutionStatus

from activities.contracts import LOOK_UP, Executed
from corridor.domain.effect import Operation
from tests.workflows.earlier import check, copy_of, put_back, read_as
from tests.workflows.lost import resumed
from tests.workflows.world import World, now
from workers.histories import reading
from workers.histories.reading import Reading, StepTaken

pytestmark = pytest.mark.asyncio(loop_scope="session")


def tell_less(patch: pytest.MonkeyPatch, operation: Operation) -> None:
    """Histories are as an older build wrote them: without what the provider answered to this operation."""

    def without_answer(step: StepTaken) -> StepTaken:
        if not isinstance(step.result, Executed) or f":{operation}:" not in step.given.effect_key:
            return step
        return replace(step, result=step.result.model_copy(update={"answer": None}))

    read_as(patch, lambda told: replace(told, steps=tuple(map(without_answer, told.steps))))


def has_only_begun(told: Reading) -> Reading:
    """A resumed run that has no step behind it yet."""
    return replace(told, steps=()) if told.start.resume else told


async def test_a_payment_that_was_resumed_after_it_differed_is_not_stopped_again(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_less(monkeypatch, Operation.CAPTURE)
    begun, edge = now().isoformat(), here.wired.edge
    payment = await here.authorize()
    before = copy_of(here.database.url, tmp_path / "before.db")
    await here.capture(payment.id)
    put_back(before, here.database.url)
    assert (await check(here, edge, begun, is_repair=True)).stopped == [f"payment-{payment.id}"]
    assert (await resumed(here)).started == (payment.id,)
    await here.until(payment.id, "captured")
    again = await check(here, edge, begun, is_repair=True)
    assert again.left == [], list(map(str, again.left))
    assert again.stopped == []
    assert (await here.handle(payment.id).describe()).status is WorkflowExecutionStatus.RUNNING
    await here.settle()
    await here.until(payment.id, "settled")


async def test_a_payment_that_was_resumed_and_lost_again_is_stopped(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is older than what its workflow was resumed from: that it lacks, and none of it can be left out."""
    tell_less(monkeypatch, Operation.CAPTURE)
    begun, edge = now().isoformat(), here.wired.edge
    payment = await here.authorize()
    before = copy_of(here.database.url, tmp_path / "before.db")
    await here.capture(payment.id)
    await here.handle(payment.id).terminate()
    assert (await resumed(here)).started == (payment.id,)
    async with asyncio.timeout(20):
        while not (await _last_run(here, payment.id)).of(LOOK_UP):
            await asyncio.sleep(0.1)
    read_as(monkeypatch, has_only_begun)
    put_back(before, here.database.url)
    found = await check(here, edge, begun, is_repair=True)
    assert [gap.object_id for gap in found.left] == [payment.id]
    assert found.stopped == [f"payment-{payment.id}"]
    assert (await resumed(here)).started == (payment.id,)
    await here.until(payment.id, "captured")


async def test_a_payment_whose_refund_differs_goes_on(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_less(monkeypatch, Operation.REFUND)
    begun, edge = now().isoformat(), here.wired.edge
    payment = await here.pay()
    before = copy_of(here.database.url, tmp_path / "before.db")
    refund = await here.refund(payment.id, 1_000)
    put_back(before, here.database.url)
    found = await check(here, edge, begun, is_repair=True)
    assert [gap.object_id for gap in found.left] == [payment.id]
    assert found.stopped == [f"refund-{refund.id}"]
    assert (await resumed(here)).started == (refund.id,)
    await here.settle()
    await here.until(payment.id, "settled")


async def _last_run(here: World, payment_id: str) -> Reading:
    history = await here.handle(payment_id).fetch_history()
    return await reading.read(history, here.client.data_converter)
