"""Refunds: partial, repeated, racing, failing, and coming back after they had succeeded."""

import asyncio
import contextlib
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError

from corridor.domain.money import Money
from corridor.storage import refunds
from tests.workflows.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOR_EVER = 1000


async def _until_refund(here: World, refund_id: str, status: str, seconds: float = 20) -> Any:
    async with asyncio.timeout(seconds):
        while (row := await here.database.read(refunds.load, refund_id)).status != status:
            await asyncio.sleep(0.1)
    return row


@pytest.mark.parametrize("settled", [False, True], ids=["before settlement", "after settlement"])
async def test_partial_refunds_add_up_to_the_capture_and_no_further(everywhere: World, settled: bool) -> None:
    payment = await everywhere.pay()
    if settled:
        # Others pay too: a refund after settlement is taken from what the merchant has available.
        await everywhere.pay()
        await everywhere.settle()
        await everywhere.until(payment.id, "settled")
    made = [await everywhere.refund(payment.id, minor) for minor in (2_500, 3_333, 4_167)]
    assert [refund.status for refund in made] == ["succeeded"] * 3
    refused = await everywhere.refund(payment.id, 1)
    assert (refused.status, refused.status_reason) == ("failed", "refund_exceeds_captured")
    assert (await everywhere.payment(payment.id)).amount_refunded_minor == 10_000
    await everywhere.settle()


async def test_a_refund_before_settlement_settles_with_its_payment(everywhere: World) -> None:
    payment = await everywhere.pay()
    assert (await everywhere.refund(payment.id, 4_000)).status == "succeeded"
    await everywhere.settle()
    payment = await everywhere.until(payment.id, "settled")
    assert payment.settled_charged_minor == 6_000


async def test_of_two_racing_refunds_that_exceed_the_capture_one_is_refused(everywhere: World) -> None:
    payment = await everywhere.pay()
    racing = await asyncio.gather(*(everywhere.refund(payment.id, 6_000) for _ in range(2)))
    assert sorted(refund.status for refund in racing) == ["failed", "succeeded"]
    assert [amount for effect, amount in await everywhere.moved(payment.id) if effect == "refund"] == [6_000]


async def test_twenty_racing_refunds_never_return_more_than_was_captured(everywhere: World) -> None:
    payment = await everywhere.pay()
    racing = await asyncio.gather(*(everywhere.refund(payment.id, 1_500) for _ in range(20)))
    assert sum(refund.status == "succeeded" for refund in racing) == 6


async def test_a_refund_never_takes_what_other_payments_brought(here: World) -> None:
    """The merchant's balance could bear it; this payment's captured money cannot."""
    payment, _ = await here.pay(), await here.pay()
    assert (await here.refund(payment.id, 6_000)).status == "succeeded"
    refund = await here.refund(payment.id, 6_000)
    assert (refund.status, refund.status_reason) == ("failed", "refund_exceeds_captured")
    assert await here.effects(payment.id) == [("sale:1", "approved"), ("refund:1", "approved")]


async def test_a_refund_of_a_payment_that_was_canceled_is_refused(here: World) -> None:
    payment = await here.authorize()
    await here.cancel(payment.id)
    refund = await here.refund(payment.id, 1_000)
    assert (refund.status, refund.status_reason) == ("failed", "state_conflict")


async def test_a_refund_of_a_payment_that_is_not_known_to_be_captured_waits_until_it_is(here: World) -> None:
    """None is accepted of such a payment: the database has come back older than what the merchant was told."""
    here.without_keys()
    await here.plant("timeout_after_effect")
    await here.plant("status", "payment_intents.list", times=FOR_EVER, status=503)
    payment = await here.pay()
    refund_id = await here.accept_refund(payment.id, 1_000)
    refunding = asyncio.create_task(here.start_refund(refund_id))
    await asyncio.sleep(1)
    waiting = await here.database.read(refunds.load, refund_id)
    assert (waiting.status, waiting.reserved_from) == ("processing", None)
    await here.heal()
    reference = await here.reference_at_the_provider(payment.id)
    await here.decide(payment.id, "found", provider_reference=reference)
    await refunding
    await here.until_refund(refund_id, "succeeded")


async def test_a_payment_that_a_person_found_is_refunded_under_the_reference_they_named(here: World) -> None:
    here.without_keys()
    await here.plant("timeout_after_effect")
    await here.plant("status", "payment_intents.list", times=FOR_EVER, status=503)
    payment = await here.pay()
    await here.heal()
    await here.decide(
        payment.id, "found", provider_reference=await here.reference_at_the_provider(payment.id)
    )
    assert (await here.refund(payment.id, 1_000)).status == "succeeded"


async def test_a_refund_of_a_payment_without_a_reference_is_refused_and_reserves_nothing(here: World) -> None:
    here.without_keys()
    await here.plant("timeout_after_effect")
    await here.plant("status", "payment_intents.list", times=FOR_EVER, status=503)
    payment = await here.pay()
    await here.decide(payment.id, "found")
    refund = await here.refund(payment.id, 1_000)
    assert (refund.status, refund.status_reason) == ("failed", "state_conflict")


async def test_a_refund_with_an_unknown_outcome_is_looked_up(here: World) -> None:
    payment = await here.pay()
    here.without_keys()
    await here.plant("timeout_after_effect", "refunds.create")
    assert (await here.refund(payment.id, 3_000)).status == "succeeded"


async def test_a_refund_that_never_arrived_is_sent_once_more(here: World) -> None:
    payment = await here.pay()
    here.without_keys()
    await here.plant("reset_before_effect", "refunds.create")
    assert (await here.refund(payment.id, 3_000)).status == "succeeded"
    states = dict((await here.effects(payment.id))[1:])
    assert states == {"refund:1": "not_sent", "refund:2": "approved"}


async def test_a_refund_that_cannot_be_sent_releases_its_money(everywhere: World) -> None:
    payment = await everywhere.pay()
    everywhere.without_keys()
    await everywhere.plant("reset_before_effect", "refunds.create", times=2)
    refund = await everywhere.refund(payment.id, 3_000)
    assert (refund.status, refund.status_reason) == ("failed", "not_sent")
    assert (await everywhere.refund(payment.id, 10_000)).status == "succeeded"


async def test_a_refund_whose_provider_is_down_waits_for_a_person_with_its_money_reserved(
    here: World,
) -> None:
    payment = await here.pay()
    here.without_keys()
    await here.plant("reset_before_effect", "refunds.create")
    await here.plant("status", "refunds.list", times=FOR_EVER, status=503)
    refund = await here.refund(payment.id, 6_000)
    assert refund.status == "requires_review"
    assert (await here.refund(payment.id, 6_000)).status_reason == "refund_exceeds_captured"
    review = await here.review(refund.id)
    await here.decide_refund(refund.id, review.id, "absent")
    await _until_refund(here, refund.id, "failed")


async def test_a_pending_refund_succeeds_when_the_provider_says_so(here: World) -> None:
    payment = await here.pay("pm_card_pendingRefund")
    refund_id = await here.accept_refund(payment.id, 2_000)
    starting = asyncio.create_task(here.start_refund(refund_id))
    async with asyncio.timeout(30):
        while ("refund:1", "pending") not in await here.effects(payment.id):
            await asyncio.sleep(0.05)
    (await here.control.post("/control/clock", json={"advance_seconds": 5})).raise_for_status()
    await here.refund_handle(refund_id).signal("provider_hint", {"provider_event_id": "evt_1"})
    await starting
    await _until_refund(here, refund_id, "succeeded")


async def test_a_refund_that_comes_back_is_booked_back(everywhere: World) -> None:
    payment = await everywhere.pay("pm_card_refundFail")
    refund = await everywhere.refund(payment.id, 2_000)
    assert refund.status == "succeeded"
    (await everywhere.control.post("/control/clock", json={"advance_seconds": 5})).raise_for_status()
    assert await everywhere.route_webhooks() > 0
    await _until_refund(everywhere, refund.id, "failed")
    payment = await everywhere.payment(payment.id)
    assert payment.amount_refunded_minor == 0


async def test_the_news_of_a_refund_that_came_back_outlast_a_provider_that_cannot_be_read(
    here: World,
) -> None:
    """The event comes once: a look that is given up would leave the refund a success."""
    payment = await here.pay("pm_card_refundFail")
    refund = await here.refund(payment.id, 2_000)
    assert refund.status == "succeeded"
    (await here.control.post("/control/clock", json={"advance_seconds": 5})).raise_for_status()
    await here.plant("status", "refunds.retrieve", times=FOR_EVER, status=503)
    assert await here.route_webhooks() > 0
    await here.under_way("status")
    await asyncio.sleep(4)  # longer than tries of a look that is given up
    await here.heal()
    await _until_refund(here, refund.id, "failed")


async def test_a_refund_that_came_back_unheard_is_noticed_in_the_settlement_report(here: World) -> None:
    """The webhook was lost; the report pays the money back, and that is the second way to hear of it."""
    payment = await here.pay("pm_card_refundFail")
    refund = await here.refund(payment.id, 2_000)
    assert refund.status == "succeeded"
    (await here.control.post("/control/clock", json={"advance_seconds": 5})).raise_for_status()
    await here.settle()
    await _until_refund(here, refund.id, "failed")
    assert (await here.payment(payment.id)).amount_refunded_minor == 0


async def test_a_temporal_cancel_of_a_refund_under_way_loses_no_answer(here: World) -> None:
    payment = await here.pay()
    refund_id = await here.accept_refund(payment.id, 2_000)
    await here.plant("latency", "refunds.create", milliseconds=1000)
    starting = asyncio.create_task(here.start_refund(refund_id))
    await here.under_way()
    await here.refund_handle(refund_id).cancel()
    await starting
    assert (await here.refund_handle(refund_id).result())["status"] == "succeeded"


async def test_a_decision_that_evidence_overtook_is_answered(here: World) -> None:
    payment = await here.pay()
    here.without_keys()
    await here.plant("timeout_after_effect", "refunds.create")
    await here.plant("status", "refunds.list", times=1000, status=503)
    refund = await here.refund(payment.id, 6_000)
    assert refund.status == "requires_review"
    review = await here.review(refund.id)
    await here.heal()
    await here.refund_handle(refund.id).signal("provider_hint", {"provider_event_id": "evt_9"})
    async with asyncio.timeout(60):
        while (await here.database.read(refunds.load, refund.id)).status != "succeeded":
            await asyncio.sleep(0.1)
        # Refused, or heard by a workflow that is about to learn what the row says already: answered either way.
        with contextlib.suppress(WorkflowUpdateFailedError):
            await here.decide_refund(refund.id, review.id, "found")
    assert (await here.database.read(refunds.load, refund.id)).status == "succeeded"


async def test_a_refund_that_came_back_after_the_settlement_is_settled_late_and_refundable_again(
    here: World,
) -> None:
    payment = await here.pay("pm_card_refundFail")
    await (
        here.pay()
    )  # others pay too: a refund after settlement is taken from what the merchant has available
    refund = await here.refund(payment.id, 3_000)
    await here.settle()
    before = await here.until(payment.id, "settled")
    (await here.control.post("/control/clock", json={"advance_seconds": 5})).raise_for_status()
    await here.route_webhooks()
    await _until_refund(here, refund.id, "failed")
    after = await here.payment(payment.id)
    assert (before.settled_charged_minor, after.settled_charged_minor) == (7_000, 10_000)
    assert after.settled_minor > before.settled_minor
    assert (await here.refund(payment.id, 8_000)).status == "succeeded"


async def test_money_reserved_before_the_settlement_and_released_after_it_is_refundable_in_full(
    here: World,
) -> None:
    payment = await here.pay()
    await here.pay()
    here.without_keys()
    await here.plant("reset_before_effect", "refunds.create")
    await here.plant("status", "refunds.list", times=FOR_EVER, status=503)
    refund = await here.refund(payment.id, 3_000)
    assert refund.status == "requires_review"
    await here.settle()
    await here.until(payment.id, "settled")
    await here.heal()
    await here.decide_refund(refund.id, (await here.review(refund.id)).id, "absent")
    await _until_refund(here, refund.id, "failed")
    assert (await here.payment(payment.id)).settled_charged_minor == 10_000
    assert (await here.refund(payment.id, 10_000)).status == "succeeded"


@pytest.mark.parametrize("arrives", [True, False], ids=["returned", "released"])
async def test_a_refund_worth_less_than_a_minor_unit_after_settlement_reserves_nothing_and_ends(
    here: World, arrives: bool
) -> None:
    payment = await here.pay(amount=Money(50_000, "KRW"), settle_currency="EUR", destination_country="NL")
    assert payment.status == "captured", payment.status_reason
    await here.settle()
    await here.until(payment.id, "settled")
    if not arrives:
        here.without_keys()
        await here.plant("reset_before_effect", "refunds.create", times=2)
    async with asyncio.timeout(60):
        refund = await here.refund(payment.id, 1)
    assert (refund.status, refund.reserved_minor) == ("succeeded" if arrives else "failed", 0)
