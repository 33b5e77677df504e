"""A payment that no repair could bring up was resumed from the database; the next repair leaves its new workflow alone."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus

from activities.contracts import LOOK_UP, Executed
from corridor.domain.effect import Operation
from tests.workflows.earlier import check, copy_of, on, put_back, read_as, rows
from tests.workflows.lost import resumed
from tests.workflows.world import World, now
from workers.histories import reading
from workers.histories.reading import Reading, Sealed, StepTaken
from workers.restore.gaps import GapKind

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


def reset_has_only_begun(told: Reading) -> Reading:
    """A reset's run that has no step behind it yet."""
    return replace(told, steps=()) if told.run_id != told.first_run_id else told


def seal(patch: pytest.MonkeyPatch, workflow_id: str) -> None:
    """The first run of this workflow cannot be opened any more."""
    read = reading.read

    async def read_what_is_open(*args: Any) -> Reading:
        told = await read(*args)
        if told.workflow_id == workflow_id and not told.start.resume:
            raise Sealed(f"{workflow_id} is sealed with a key that is not at hand")
        return told

    patch.setattr(reading, "read", read_what_is_open)


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
    await _has_looked(here, payment.id)
    read_as(monkeypatch, has_only_begun)
    put_back(before, here.database.url)
    found = await check(here, edge, begun, is_repair=True)
    assert [gap.object_id for gap in found.left] == [payment.id]
    assert found.stopped == [f"payment-{payment.id}"]
    assert (await resumed(here)).started == (payment.id,)
    await here.until(payment.id, "captured")


async def test_a_reset_of_a_resumed_run_is_no_other_resume(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its start is a copy, and so is what it was resumed from: it went on from a capture that the database lacks."""
    tell_less(monkeypatch, Operation.CAPTURE)
    begun, edge = now().isoformat(), here.wired.edge
    payment = await here.authorize()
    await here.handle(payment.id).terminate()
    assert (await resumed(here)).started == (payment.id,)
    before = copy_of(here.database.url, tmp_path / "before.db")
    await here.capture(payment.id)
    await here.begin_anew(payment.id)
    await _has_looked(here, payment.id)
    read_as(monkeypatch, reset_has_only_begun)
    put_back(before, here.database.url)
    found = await check(here, edge, begun, is_repair=True)
    assert [gap.object_id for gap in found.left] == [payment.id], list(map(str, found.gaps))
    assert found.stopped == [f"payment-{payment.id}"]
    assert (await resumed(here)).started == (payment.id,)
    await here.until(payment.id, "captured")


@pytest.mark.parametrize("of", ["payment", "refund"])
async def test_a_payment_with_a_sealed_run_is_left_alone(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """Its first run is sealed with a key that is lost; what the next one says is not half the story."""
    begun = now().isoformat()
    payment = await here.authorize()
    await here.handle(payment.id).terminate()
    assert (await resumed(here)).started == (payment.id,)
    await here.capture(payment.id)
    accepted = await here.accept_refund(payment.id, 1_000)
    await here.start_refund(accepted)
    before = copy_of(here.database.url, tmp_path / "before.db")
    await here.settle()
    await here.until(payment.id, "settled")
    sealed = f"payment-{payment.id}" if of == "payment" else f"refund-{accepted}"
    seal(monkeypatch, sealed)
    async with on(here, before) as older:
        known = await older.database.read(rows)
        found = await check(here, older, begun, is_repair=True)
        assert [(gap.kind, gap.object_id) for gap in found.left] == [(GapKind.SEALED, sealed)]
        assert found.stopped == []
        made = await older.database.read(rows)
        assert (made["payments"], made["events"]) == (known["payments"], known["events"])


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


async def _has_looked(here: World, payment_id: str) -> None:
    """The payment's run in force knows what the provider has."""
    async with asyncio.timeout(20):
        while not (await here.told(payment_id)).of(LOOK_UP):
            await asyncio.sleep(0.1)


async def test_a_run_that_a_reset_made_began_when_it_was_reset(here: World) -> None:
    """Its first event is a copy, of the moment at which the run before it began: the two have an order all the same."""
    payment = await here.authorize()
    before = await here.told(payment.id)
    await here.begin_anew(payment.id)
    assert before.started_at < (await here.told(payment.id)).started_at
