"""The scenarios whose histories are golden: each runs in a small installation and names the workflows to keep."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from corridor.domain.effect import Operation
from corridor.domain.money import Money
from corridor.storage import reviews
from tests.workflows.lost import declare, leave_the_undo_stuck, resumed
from tests.workflows.world import World
from workflows import names
from workflows.starts import Windows

Kept = list[tuple[str, str]]
"""(workflow type, workflow id)"""
FOR_EVER = 1000


def _payment(payment_id: str) -> Kept:
    return [(names.PAYMENT, names.payment_workflow_id(payment_id))]


async def happy(here: World) -> Kept:
    payment = await here.pay()
    await here.settle()
    await here.until(payment.id, "settled")
    return _payment(payment.id)


async def declined(here: World) -> Kept:
    return _payment((await here.pay("pm_card_visa_chargeDeclined")).id)


async def three_d_secure(here: World) -> Kept:
    payment = await here.pay("pm_card_threeDSecure2Required")
    await here.finish_challenge(payment.id)
    await here.hint(payment.id)
    await here.until(payment.id, "captured")
    await here.settle()
    await here.until(payment.id, "settled")
    return _payment(payment.id)


async def three_d_secure_abandoned(here: World) -> Kept:
    here.windows = Windows(action_window_seconds=2)
    payment = await here.pay("pm_card_threeDSecure2Required")
    await here.until(payment.id, "expired")
    return _payment(payment.id)


async def unknown_found(here: World) -> Kept:
    here.without_keys()
    await here.plant("timeout_after_effect")
    return _payment((await here.pay()).id)


async def unknown_not_found(here: World) -> Kept:
    here.without_keys()
    await here.plant("reset_before_effect")
    return _payment((await here.pay()).id)


async def unknown_sent_again(here: World) -> Kept:
    """Keys make a repeat safe: what nobody answered is looked for, then sent again under its own key."""
    await here.plant("reset_before_effect", times=5)
    return _payment((await here.pay()).id)


async def key_spent(here: World) -> Kept:
    """The provider repeats a server error from memory and did nothing: another key brings the effect about."""
    await here.plant("status", status=500, stored=True)
    return _payment((await here.pay()).id)


async def key_spent_reviewed(here: World) -> Kept:
    """When `key_spent` was recorded, a server error that the provider repeats was taken for the end of the matter."""
    await here.plant("status", status=500, stored=True)
    payment = await here.pay()
    await here.decide(payment.id, "absent")
    return _payment(payment.id)


async def capture_under_another_key(here: World) -> Kept:
    """An authorisation is captured once under whichever key, so here another one is taken."""
    payment = await here.authorize()
    await here.plant("status", "payment_intents.capture", status=500, stored=True)
    await here.capture(payment.id)
    return _payment(payment.id)


async def called_off(here: World) -> Kept:
    """A cancel comes while the first try is looked up: there is no second one."""
    here.without_keys()
    await here.plant("latency", milliseconds=300)
    await here.plant("reset_before_effect")
    payment_id = await here.accept()
    starting = asyncio.create_task(here.start(payment_id))
    await here.under_way()
    await here.cancel(payment_id)
    await starting
    return _payment(payment_id)


async def news_while_unknown(here: World) -> Kept:
    """Late webhooks arrive while a call that nobody answered goes on: each is looked at, none ends the wait."""
    here.without_keys()
    await here.plant("latency", milliseconds=4_500)
    payment_id = await here.accept()
    starting = asyncio.create_task(here.start(payment_id))
    await here.under_way()
    await here.late_news(payment_id)
    await starting
    return _payment(payment_id)


async def unknown_reviewed(here: World) -> Kept:
    here.without_keys()
    await here.plant("timeout_after_effect")
    await here.plant("status", "payment_intents.list", times=FOR_EVER, status=503)
    payment = await here.pay()
    await here.decide(payment.id, "found")
    return _payment(payment.id)


async def expired_quote(here: World) -> Kept:
    here.lock(5)
    payment = await here.authorize(slippage_max_bps=500)
    await asyncio.sleep(3.5)
    here.lock(1800)
    await here.capture(payment.id)
    return _payment(payment.id)


async def slippage_exceeded(here: World) -> Kept:
    here.lock(5)
    payment = await here.authorize(slippage_policy="reject")
    await asyncio.sleep(3.5)
    await here.capture(payment.id)
    return _payment(payment.id)


async def canceled(here: World) -> Kept:
    payment = await here.authorize()
    await here.cancel(payment.id)
    return _payment(payment.id)


async def cancel_during_capture(here: World) -> Kept:
    payment = await here.authorize()
    await here.plant("latency", "payment_intents.capture", milliseconds=1_000)
    capturing = asyncio.create_task(here.capture(payment.id))
    await here.under_way()
    await here.handle(payment.id).cancel()
    await capturing
    return _payment(payment.id)


async def review_approved(here: World) -> Kept:
    payment = await here.pay(amount=Money(600_000, "EUR"))
    await here.decide(payment.id, "approve")
    await here.until(payment.id, "captured")
    return _payment(payment.id)


async def review_declined(here: World) -> Kept:
    payment = await here.pay(amount=Money(600_000, "EUR"))
    await here.decide(payment.id, "decline")
    return _payment(payment.id)


async def review_approved_once_recorded(here: World) -> Kept:
    """Commands before `review_approved` was recorded acted in the task they came in; since then not."""
    return await review_approved(here)


async def canceled_once_recorded(here: World) -> Kept:
    """The same of `canceled`."""
    return await canceled(here)


async def webhook_before_response(here: World) -> Kept:
    payment_id = await here.accept()
    await here.plant("latency", milliseconds=1_000)
    starting = asyncio.create_task(here.start(payment_id))
    await here.under_way()
    await here.hint(payment_id)
    await starting
    return _payment(payment_id)


async def webhooks_late_and_doubled(here: World) -> Kept:
    payment = await here.pay()
    for _ in range(2):
        await here.hint(payment.id)
    await here.settle()
    await here.until(payment.id, "settled")
    return _payment(payment.id)


async def canceled_before_the_buyer_came_back(here: World) -> Kept:
    payment = await here.pay("pm_card_threeDSecure2Required")
    await here.cancel(payment.id)
    return _payment(payment.id)


async def canceled_in_review(here: World) -> Kept:
    payment = await here.pay(amount=Money(600_000, "EUR"))
    await here.cancel(payment.id)
    return _payment(payment.id)


async def cancel_too_late(here: World) -> Kept:
    """It comes while the sale is under way, waits for its end, and hears that the money is captured."""
    payment_id = await here.accept()
    await here.plant("latency", milliseconds=1_000)
    starting = asyncio.create_task(here.start(payment_id))
    await here.under_way()
    await here.cancel(payment_id)
    await starting
    return _payment(payment_id)


async def capture_found_absent(here: World) -> Kept:
    """A person proves that the capture never happened: the authorisation stands, and is released when canceled."""
    payment = await here.authorize()
    here.without_keys()
    await here.plant("status", "payment_intents.capture", times=FOR_EVER, status=503)
    await here.capture(payment.id, 6_000)
    await here.decide(payment.id, "absent")
    await here.cancel(payment.id)
    return _payment(payment.id)


async def review_closed_by_evidence(here: World) -> Kept:
    here.without_keys()
    await here.plant("timeout_after_effect")
    await here.plant("status", "payment_intents.list", times=FOR_EVER, status=503)
    payment = await here.pay()
    await here.heal()
    await here.hint(payment.id)
    await here.until(payment.id, "captured")
    return _payment(payment.id)


async def undo_stuck(here: World) -> Kept:
    """The void is refused again and again; a person has it made once the provider is back."""
    payment = await here.authorize()
    here.without_keys()
    await here.plant("status", "payment_intents.cancel", times=FOR_EVER, status=503)
    payment = await _terminated(here, payment.id)
    await here.database.write(leave_the_undo_stuck, payment.id)
    await resumed(here)
    await here.hint(payment.id)
    async with asyncio.timeout(60):
        while not await here.database.read(reviews.open_for, payment.id):
            await asyncio.sleep(0.1)
    await here.heal()
    await here.decide(payment.id, "approve")
    await here.until(payment.id, "canceled")
    return _payment(payment.id)


async def resumed_and_captured(here: World) -> Kept:
    payment = await _terminated(here, (await here.authorize()).id)
    await resumed(here)
    await here.capture(payment.id)
    return _payment(payment.id)


async def resumed_to_what_was_asked(here: World) -> Kept:
    """A capture was declared, then its workflow was lost: looked for, not found, and made."""
    payment = await here.authorize()
    await declare(here, payment.id, Operation.CAPTURE)
    await _terminated(here, payment.id)
    await resumed(here)
    await here.until(payment.id, "captured")
    return _payment(payment.id)


async def resumed_to_its_undo(here: World) -> Kept:
    payment = await _terminated(here, (await here.authorize()).id)
    await declare(here, payment.id, Operation.VOID)
    await resumed(here)
    await here.until(payment.id, "canceled")
    return _payment(payment.id)


async def resumed_to_its_challenge(here: World) -> Kept:
    """The buyer finished the challenge while there was no workflow."""
    payment = await here.pay("pm_card_threeDSecure2Required")
    await _terminated(here, payment.id)
    await here.finish_challenge(payment.id)
    await resumed(here)
    await here.until(payment.id, "captured")
    return _payment(payment.id)


async def _terminated(here: World, payment_id: str) -> Any:
    """Runs no workflow code: to the payment it is the same as a lost server. Returns its row."""
    await here.handle(payment_id).terminate("the server was lost")
    return await here.payment(payment_id)


async def refund(here: World) -> Kept:
    payment = await here.pay()
    made = await here.refund(payment.id, 4_000)
    await here.refund_handle(made.id).cancel()
    await here.refund_handle(made.id).result()
    return [(names.REFUND, names.refund_workflow_id(made.id))]


async def refund_over_limit(here: World) -> Kept:
    payment = await here.pay()
    made = await here.refund(payment.id, 10_001)
    return [(names.REFUND, names.refund_workflow_id(made.id))]


async def refund_not_sent(here: World) -> Kept:
    payment = await here.pay()
    here.without_keys()
    await here.plant("reset_before_effect", "refunds.create", times=2)
    made = await here.refund(payment.id, 4_000)
    return [(names.REFUND, names.refund_workflow_id(made.id))]


async def refund_reviewed(here: World) -> Kept:
    payment = await here.pay()
    here.without_keys()
    await here.plant("reset_before_effect", "refunds.create")
    await here.plant("status", "refunds.list", times=FOR_EVER, status=503)
    made = await here.refund(payment.id, 6_000)
    await here.decide_refund(made.id, (await here.review(made.id)).id, "absent")
    await here.refund_handle(made.id).result()
    return [(names.REFUND, names.refund_workflow_id(made.id))]


async def refund_reviewed_once_recorded(here: World) -> Kept:
    """As `review_approved_once_recorded`."""
    return await refund_reviewed(here)


async def refund_came_back(here: World) -> Kept:
    payment = await here.pay("pm_card_refundFail")
    made = await here.refund(payment.id, 4_000)
    (await here.control.post("/control/clock", json={"advance_seconds": 5})).raise_for_status()
    await here.refund_handle(made.id).signal(names.PROVIDER_HINT, {"provider_event_id": "evt_1"})
    await here.refund_handle(made.id).result()
    return [(names.REFUND, names.refund_workflow_id(made.id))]


async def settlement(here: World) -> Kept:
    for _ in range(2):
        await here.pay()
    (await here.control.post("/control/settle")).raise_for_status()
    return [(names.SETTLEMENT, await here.import_settlement())]


async def settlement_side_by_side(here: World) -> Kept:
    """Payouts in two currencies, imported at once."""
    for currency in ("EUR", "USD"):
        await here.pay(amount=Money(10_000, currency))
    (await here.control.post("/control/settle")).raise_for_status()
    return [(names.SETTLEMENT, await here.import_settlement())]


async def settlement_on_its_own_queue(here: World) -> Kept:
    """Imports before this one was recorded ran on the core queue and asked again after up to half a minute."""
    return await settlement_side_by_side(here)


async def delivered(here: World) -> Kept:
    await here.subscribe(("payment.captured",))
    await here.pay()
    (delivery_id,) = await here.dispatch()
    workflow_id = names.delivery_workflow_id(delivery_id)
    assert await here.client.get_workflow_handle(workflow_id).result() == "delivered"
    return [(names.WEBHOOK_DELIVERY, workflow_id)]


async def delivery_retried(here: World) -> Kept:
    """The receiver fails once; the second attempt comes after the schedule's first pause."""
    await here.subscribe(("payment.captured",), failures=1)
    await here.pay()
    (delivery_id,) = await here.dispatch()
    workflow_id = names.delivery_workflow_id(delivery_id)
    assert await here.client.get_workflow_handle(workflow_id).result() == "delivered"
    return [(names.WEBHOOK_DELIVERY, workflow_id)]


async def delivered_from_its_own_queue(here: World) -> Kept:
    """Attempts before `delivery_retried` was recorded were made on the core queue; since then not."""
    return await delivery_retried(here)


SCENARIOS: dict[str, Callable[[World], Awaitable[Kept]]] = {
    scenario.__name__: scenario
    for scenario in (
        happy, declined, three_d_secure, three_d_secure_abandoned, unknown_found, unknown_not_found,
        webhooks_late_and_doubled, canceled_before_the_buyer_came_back, canceled_in_review, cancel_too_late,
        capture_found_absent, review_closed_by_evidence, undo_stuck, resumed_and_captured, resumed_to_what_was_asked,
        resumed_to_its_undo, resumed_to_its_challenge, refund_reviewed,
        unknown_sent_again, key_spent, unknown_reviewed, expired_quote, slippage_exceeded, canceled,
        cancel_during_capture, review_approved, review_declined, webhook_before_response, refund, refund_over_limit,
        refund_not_sent, refund_came_back, settlement, settlement_side_by_side, settlement_on_its_own_queue,
        delivered, delivery_retried, delivered_from_its_own_queue, review_approved_once_recorded, canceled_once_recorded,
        refund_reviewed_once_recorded, key_spent_reviewed, capture_under_another_key, called_off,
        news_while_unknown,
    )
}  # fmt: skip
