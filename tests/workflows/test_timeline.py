"""The timeline of real payments: the story is whole, each event names its cause, and a moment is what it was then."""

import asyncio
import json
from typing import Any

import pytest
from temporalio.client import Client

from corridor.domain.failure import Refused
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.domain.payment import CaptureMethod
from corridor.ledger import store
from tests.workflows.lost import expire
from tests.workflows.world import World, now
from workers.timeline import moment as timeline_moment
from workers.timeline.story import Kind, NoSuchEvent, Timeline
from workers.timeline.timeline import tell

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHALLENGE = "pm_card_authenticationRequired"


async def told(here: World, payment_id: str, at: str | None = None) -> Timeline:
    async def connect() -> Client:
        return here.client

    return await tell(here.database, connect, payment_id, at)


async def without_temporal() -> Client:
    raise RuntimeError("failed client connect: nobody listens")


def events(timeline: Timeline) -> list[str]:
    return [it.facts["type"] for it in timeline.happenings if it.kind is Kind.EVENT]


async def moments(here: World, payment_id: str) -> list[Any]:
    """The payment after each of its events, in order."""
    count = (await here.payment(payment_id)).sequence
    stories = [await told(here, payment_id, str(number)) for number in range(1, count + 1)]
    return [story.moment for story in stories]


async def test_a_challenged_sale_is_told_from_request_to_settlement(everywhere: World) -> None:
    payment = await everywhere.pay(CHALLENGE)
    await everywhere.finish_challenge(payment.id)
    await everywhere.route_webhooks()
    await everywhere.until(payment.id, "captured")
    await everywhere.settle()
    await everywhere.until(payment.id, "settled")
    story = await told(everywhere, payment.id)
    assert story.without_history is None
    assert events(story) == [
        "payment.accepted",
        "payment.requires_action",
        "payment.captured",
        "payment.settled",
    ]
    stood = await moments(everywhere, payment.id)
    assert [it.cause.actor for it in stood] == ["merchant", "provider", "provider", "provider"]
    assert [it.payment["status"] for it in stood] == ["processing", "requires_action", "captured", "settled"]
    assert "sale" in stood[1].cause.text
    assert "woken by signal provider_hint: evt_" in stood[2].cause.text
    assert "settlement report was booked" in stood[3].cause.text


async def test_balances_of_a_moment_are_those_the_ledger_had_then(here: World) -> None:
    first = await here.pay()
    second = await here.pay()
    pending = f"merchant/{here.merchant_id}/pending/EUR"
    stood = (await told(here, first.id, str(first.sequence))).moment
    assert stood is not None
    assert {it.account: (it.moved_minor, it.balance_minor) for it in stood.balances} == {
        "clearing/stripe/EUR": (10_000, 10_000),
        pending: (-10_000, -10_000),
    }
    later = (await told(here, second.id, str(second.sequence))).moment
    assert later is not None
    assert {it.account: it.balance_minor for it in later.balances}[pending] == -20_000
    held = await here.database.read(store.balance, pending)
    assert held == Money(-20_000, "EUR")


async def test_an_effect_is_open_until_its_answer_is_recorded(here: World) -> None:
    payment = await here.pay(CHALLENGE)
    await here.finish_challenge(payment.id)
    await here.hint(payment.id)
    await here.until(payment.id, "captured")
    accepted, challenged, captured = await moments(here, payment.id)
    assert accepted.open_effects == ()
    assert [it["effect"] for it in challenged.open_effects] == [f"{payment.id}:sale:1"]
    assert captured.open_effects == ()
    assert challenged.deadlines["quote_expires_at"] is not None
    assert captured.deadlines["settle_by"] is not None
    assert challenged.deadlines["settle_by"] is None


async def test_an_unknown_outcome_names_the_tries_and_the_look_that_proved_it(here: World) -> None:
    here.without_keys()
    await here.plant("timeout_after_effect")
    payment = await here.pay()
    story = await told(here, payment.id, str(payment.sequence))
    assert story.moment is not None
    assert "look up sale at stripe" in story.moment.cause.text
    assert "woken by timer look-up 1 of " in story.moment.cause.text


async def test_a_call_sent_again_shows_every_try(here: World) -> None:
    await here.plant("reset_before_effect", times=2)
    payment = await here.pay()
    story = await told(here, payment.id)
    unproven = [it for it in story.happenings if it.kind is Kind.LOOK]
    assert [it.facts["effect"] for it in unproven] == [f"{payment.id}:sale:1"] * 2
    assert any("try 3: approved" in it.text for it in story.happenings if it.kind is Kind.WORKFLOW)


async def test_an_approved_review_names_the_person_and_what_risk_objected_to(here: World) -> None:
    payment = await here.pay(amount=Money(600_000, "EUR"), capture_method=CaptureMethod.MANUAL)
    await here.decide(payment.id, "approve")
    await here.until(payment.id, "authorized")
    accepted, asked, approved, authorized = await moments(here, payment.id)
    assert (accepted.cause.actor, asked.cause.actor) == ("merchant", "risk")
    assert "amount_above_review 6000.00 EUR against 5000.00 EUR" in asked.cause.text
    assert [it["reason"] for it in asked.open_reviews] == ["risk_review"]
    assert (approved.cause.actor, approved.open_reviews) == ("person", ())
    assert "approve by ana: seen by hand" in approved.cause.text
    assert authorized.cause.actor == "provider"
    assert any("update decide_review: approve" in it.text for it in approved.cause.evidence)


async def test_a_refund_has_events_of_its_own_in_the_payments_story(here: World) -> None:
    payment = await here.pay()
    refund = await here.refund(payment.id, 4_000)
    story = await told(here, payment.id)
    assert events(story) == [
        "payment.accepted",
        "payment.captured",
        "refund.accepted",
        "payment.refund_reserved",
        "refund.succeeded",
        "payment.refunded",
    ]
    succeeded = next(it for it in story.happenings if it.text.startswith("#2 refund.succeeded"))
    stood = (await told(here, payment.id, succeeded.facts["event"])).moment
    assert stood is not None
    assert stood.payment["amount_refunded"]["minor"] == 4_000
    assert [(it["id"], it["status"]) for it in stood.refunds] == [(refund.id, "succeeded")]
    reserved = (await told(here, payment.id, "3")).moment
    assert reserved is not None
    assert (reserved.payment["amount_refunded"]["minor"], reserved.payment["refundable"]["minor"]) == (
        0,
        6_000,
    )
    assert [it["status"] for it in reserved.refunds] == ["processing"]
    assert reserved.cause.text.startswith("reserve 40.00 EUR under the capture")
    assert "after start of refund-" in reserved.cause.text or "after update accept" in reserved.cause.text


async def test_without_temporal_the_databases_part_is_told_and_the_gap_named(here: World) -> None:
    payment = await here.pay()
    story = await tell(here.database, without_temporal, payment.id, "2")
    assert story.without_history == "Temporal cannot be reached: failed client connect: nobody listens"
    assert events(story) == ["payment.accepted", "payment.captured"]
    assert story.moment is not None
    assert story.moment.cause.text.startswith(f"stripe on {payment.id}:sale:1: approved; HTTP 200, succeeded")


async def test_nothing_of_the_buyer_is_told(here: World) -> None:
    payment = await here.pay(CHALLENGE, payer_reference="buyer-4711", metadata={"name": "Erika Mustermann"})
    document = json.dumps((await told(here, payment.id, "2")).document(), default=str)
    for hidden in (CHALLENGE, "buyer-4711", "Mustermann", payment.instrument, "/3ds/", "shop.example"):
        assert hidden not in document
    assert '"redirect"' in document


async def test_a_moment_shows_nothing_that_happened_later(here: World) -> None:
    payment = await here.pay()
    story = await told(here, payment.id, "1")
    assert events(story) == ["payment.accepted"]
    assert story.moment is not None
    assert (story.moment.payment["status"], story.moment.balances) == ("processing", ())


async def test_an_unknown_payment_or_event_is_said_to_be_unknown(here: World) -> None:
    with pytest.raises(Refused):
        await told(here, new_id(Prefix.PAYMENT, now()))
    payment = await here.pay()
    with pytest.raises(NoSuchEvent, match="has events 1 to 2"):
        await told(here, payment.id, "3")


async def test_histories_of_before_steps_told_what_they_wrote_are_joined_by_time(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline_moment, "_wrote", lambda _step, _event: False)
    payment = await here.pay(CHALLENGE)
    await here.finish_challenge(payment.id)
    await here.hint(payment.id)
    await here.until(payment.id, "captured")
    _, challenged, captured = await moments(here, payment.id)
    async with asyncio.timeout(10):  # the step is in the history once its workflow task has ended
        while "look up" not in captured.cause.text:
            _, challenged, captured = await moments(here, payment.id)
    assert "by sale 100.00 EUR at stripe: action_required" in challenged.cause.text
    assert "by look up sale at stripe: approved" in captured.cause.text
    assert "woken by signal provider_hint: evt_1" in captured.cause.text


async def test_a_reset_run_does_not_tell_twice_what_it_copied(here: World) -> None:
    payment = await here.authorize()
    await here.reset(payment.id)
    await here.capture(payment.id)
    await here.until(payment.id, "captured")
    after = await told(here, payment.id)
    texts = [it.text for it in after.happenings if it.kind is Kind.WORKFLOW]
    assert len([text for text in texts if text.startswith("risk, FX lock, route")]) == 1
    assert any(text.startswith("capture 100.00 EUR at stripe: approved") for text in texts)


async def test_a_run_that_expires_while_it_is_read_takes_nothing_else_along(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is still listed when retention has removed it."""
    payment = await here.authorize()
    oldest = (await here.handle(payment.id).describe()).run_id
    await here.reset(payment.id)
    await here.capture(payment.id)
    expire(monkeypatch, oldest)
    story = await told(here, payment.id)
    assert story.without_history is None
    assert any("capture 100.00 EUR at stripe: approved" in it.text for it in story.happenings)
