"""Risk reviews: the payment waits for a person, and nothing is sent before the person answers."""

import asyncio

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.testing import ActivityEnvironment

from activities.contracts import DecideReviewIn, OpenReviewIn
from activities.review_steps import ReviewSteps
from corridor.domain.money import Money
from corridor.domain.payment import CaptureMethod, StatusReason
from corridor.storage import reviews
from tests.workflows.world import World
from workflows import undo

pytestmark = pytest.mark.asyncio(loop_scope="session")

LARGE = Money(600_000, "EUR")


async def test_an_approved_payment_goes_on_without_being_judged_again(everywhere: World) -> None:
    payment = await everywhere.pay(amount=LARGE)
    assert (payment.status, payment.status_reason) == ("requires_review", "risk_review")
    assert await everywhere.effects(payment.id) == []
    await everywhere.decide(payment.id, "approve")
    await everywhere.until(payment.id, "captured")


async def test_a_declined_review_fails_the_payment_and_sends_nothing(here: World) -> None:
    payment = await here.pay(amount=LARGE)
    answer = await here.decide(payment.id, "decline")
    assert (answer["refused"], answer["status"]) == (None, "failed")
    assert (await here.payment(payment.id)).status_reason == "declined_by_reviewer"
    assert await here.effects(payment.id) == []


async def test_a_payment_in_review_can_be_canceled_and_the_question_is_withdrawn(here: World) -> None:
    payment = await here.pay(amount=LARGE)
    answer = await here.cancel(payment.id)
    assert (answer["refused"], answer["status"]) == (None, "canceled")


async def test_a_finding_is_no_answer_to_a_question_of_judgement(here: World) -> None:
    payment = await here.pay(amount=LARGE)
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await here.decide(payment.id, "found")
    assert getattr(refused.value.cause, "type", None) == "invalid_parameter"


async def test_a_double_click_on_approve_does_not_cancel_what_it_approved(here: World) -> None:
    payment = await here.pay(amount=LARGE, capture_method=CaptureMethod.MANUAL)
    answers = await asyncio.gather(
        *(here.decide(payment.id, "approve") for _ in range(2)), return_exceptions=True
    )
    await here.until(payment.id, "authorized")
    await asyncio.sleep(1)
    assert (await here.payment(payment.id)).status == "authorized"
    assert any(isinstance(answer, dict) and answer["refused"] is None for answer in answers)


async def test_a_decision_that_is_recorded_again_keeps_its_moment(here: World) -> None:
    """The first attempt's answer may be lost: what histories tell of the decision is what the database holds."""
    payment = await here.pay(amount=LARGE)
    review = await here.review(payment.id)
    wanted = DecideReviewIn(review_id=review.id, decision="approve", decided_by="ana", note="known buyer")
    decide = ReviewSteps(here.wired.edge).decide
    first = await ActivityEnvironment().run(decide, wanted)
    await asyncio.sleep(0.05)
    again = await ActivityEnvironment().run(decide, wanted)
    assert again.at == first.at == (await here.database.read(reviews.get, review.id)).decided_at
    (before,), (after,) = first.stands, again.stands
    assert after.model_copy(update={"former": ()}) == before
    assert [it.event for it in after.former] == ["payment.requires_review", "payment.review_approved"]


async def test_a_person_has_a_stuck_void_made_again(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undo.voided, "__defaults__", ((),))
    payment = await here.authorize()
    here.without_keys()
    await here.plant("reset_before_effect", "payment_intents.cancel")
    assert (await here.cancel(payment.id))["refused"] == "outcome_unknown"
    assert (await here.payment(payment.id)).status_reason == "compensation_stuck"
    await here.decide(payment.id, "approve")
    await here.until(payment.id, "canceled")
    assert ("cancel", 10_000) in await here.moved(payment.id)


async def test_nobody_is_asked_about_a_payment_that_moved_on(here: World) -> None:
    payment = await here.pay()
    wanted = OpenReviewIn(
        payment_id=payment.id,
        object_id=payment.id,
        reason=StatusReason.OUTCOME_UNKNOWN,
        facts={"effect": f"{payment.id}:sale:1"},
    )
    opened = await ActivityEnvironment().run(ReviewSteps(here.wired.edge).open, wanted)
    assert (opened.review_id, opened.status, opened.sequence) == (None, "captured", payment.sequence)
    assert await here.database.read(reviews.open_for, payment.id) == []


async def test_nobody_is_asked_about_a_refund_that_moved_on(here: World) -> None:
    payment = await here.pay()
    refund = await here.refund(payment.id, 1_000)
    wanted = OpenReviewIn(payment_id=payment.id, object_id=refund.id, reason=StatusReason.OUTCOME_UNKNOWN)
    opened = await ActivityEnvironment().run(ReviewSteps(here.wired.edge).open, wanted)
    assert opened.review_id is None
    assert await here.database.read(reviews.open_for, refund.id) == []
