"""Outcomes nobody told us: found by look-up, proven absent, or a person's to decide; never guessed, never doubled."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import Connection, select, update

from corridor.domain.effect import FrozenRequest, Operation
from corridor.domain.outcome import ProviderAnswer
from corridor.domain.payment import CaptureMethod
from corridor.providers.port import KEY_LIFE_MARGIN_SECONDS
from corridor.storage import effects
from corridor.storage.tables import payments as payments_table
from corridor.storage.tables import quotes
from tests.workflows.world import BriefStripe, World

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOR_EVER = 1000


async def test_a_timeout_after_the_effect_is_found_by_look_up(everywhere: World) -> None:
    everywhere.without_keys()
    await everywhere.plant("timeout_after_effect")
    payment = await everywhere.pay()
    assert payment.status == "captured"
    assert await everywhere.effects(payment.id) == [("sale:1", "approved")]
    assert await everywhere.fired() == {"timeout_after_effect": 1}


async def test_a_timeout_after_the_effect_is_answered_by_the_same_key(here: World) -> None:
    await here.plant("timeout_after_effect")
    payment = await here.pay()
    assert (payment.status, await here.effects(payment.id)) == ("captured", [("sale:1", "approved")])


async def test_an_effect_that_becomes_visible_late_is_waited_for(here: World) -> None:
    here.stripe.promises = here.stripe.promises.model_copy(
        update={"key_life_seconds": None, "lookup_lag_seconds": 5}
    )
    payment = await here.pay("pm_card_visa_sandbox_timeoutAfterEffectLookupLag")
    assert (payment.status, await here.effects(payment.id)) == ("captured", [("sale:1", "approved")])


async def test_news_of_something_else_is_no_reason_to_conclude_that_a_running_call_did_nothing(
    here: World,
) -> None:
    """Late webhooks of an earlier effect arrive while a call that we gave up on goes on at the provider."""
    here.without_keys()
    await here.plant("latency", milliseconds=4_500)
    payment_id = await here.accept()
    starting = asyncio.create_task(here.start(payment_id))
    await here.under_way()
    await here.late_news(payment_id)
    await starting
    assert await here.effects(payment_id) == [("sale:1", "approved")]
    assert [effect for effect, _ in await here.moved(payment_id)].count("capture") == 1
    assert (await here.payment(payment_id)).status == "captured"


async def test_what_never_arrived_is_proven_absent_and_sent_once_more(here: World) -> None:
    here.without_keys()
    await here.plant("reset_before_effect")
    payment = await here.pay()
    assert payment.status == "captured"
    assert await here.effects(payment.id) == [("sale:1", "not_sent"), ("sale:2", "approved")]


async def test_a_run_that_is_reset_while_its_call_is_under_way_sends_no_second_one(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no key protects a repeat the provider would collect again, so the new run may only look."""
    send, sent = BriefStripe.send, []

    async def counted(
        self: BriefStripe, key: str, operation: Operation, request: FrozenRequest
    ) -> ProviderAnswer:
        sent.append(key)
        return await send(self, key, operation, request)

    monkeypatch.setattr(BriefStripe, "send", counted)
    here.without_keys()
    await here.plant("latency", milliseconds=4_500)
    payment_id = await here.accept()
    starting = asyncio.create_task(here.start(payment_id))
    await here.under_way()
    await here.reset(payment_id)
    await asyncio.wait([starting])  # answered, or told that its run is no more
    await here.until(payment_id, "captured")
    assert sent == [f"{payment_id}:sale:1"]
    assert await here.effects(payment_id) == [("sale:1", "approved")]


async def test_a_call_that_a_reset_run_takes_over_is_not_its_first(here: World) -> None:
    """It is a first attempt there, of a call that is still under way; with the rate lock over, not seen is not unsent."""
    here.stripe.promises = here.stripe.promises.model_copy(update={"longest_call_seconds": 12})
    here.lock(6)
    await here.plant("latency", milliseconds=9_000)
    payment_id = await here.accept(slippage_policy="reject")
    starting = asyncio.create_task(here.start(payment_id))
    await here.under_way()
    await here.hint(payment_id)  # a second task, so that the reset keeps the call
    await here.tasks_completed(payment_id, 2)
    await asyncio.sleep(4)
    await here.reset(payment_id)
    await asyncio.wait([starting])
    await here.until(payment_id, "captured", "failed")
    assert await here.effects(payment_id) == [("sale:1", "approved")]
    assert (await here.payment(payment_id)).status == "captured"


async def test_a_run_that_was_reset_before_it_sent_anything_may_send(here: World) -> None:
    here.without_keys()
    payment = await here.authorize()
    await here.reset(payment.id)
    await here.capture(payment.id)
    assert dict(await here.effects(payment.id)) == {"authorise:1": "approved", "capture:1": "approved"}


async def test_what_nobody_answered_is_sent_again_under_the_same_key(here: World) -> None:
    """A call that went unanswered may be running still; under another key it could become a second effect."""
    await here.plant("reset_before_effect", times=5)
    payment = await here.pay()
    assert payment.status == "captured"
    assert await here.effects(payment.id) == [("sale:1", "approved")]
    assert await here.fired() == {"reset_before_effect": 5}


@pytest.mark.slow
async def test_a_call_that_is_carried_out_long_after_we_gave_up_moves_the_money_once(here: World) -> None:
    await here.plant("latency", times=4, milliseconds=19_000)
    payment = await here.pay()
    assert payment.status == "captured"
    assert await here.effects(payment.id) == [("sale:1", "approved")]
    await asyncio.sleep(15)  # the last of the four is through, and found its key taken
    assert [effect for effect, _ in await here.moved(payment.id)].count("capture") == 1


@pytest.mark.slow
async def test_an_error_from_in_front_of_the_provider_does_not_spend_the_key(here: World) -> None:
    """A balancer says 503 while the call it lost sight of goes on: another key would collect a second time."""
    await here.plant("latency", milliseconds=19_000)
    payment_id = await here.accept()
    starting = asyncio.create_task(here.start(payment_id))
    await here.under_way()
    await here.plant("front_status", times=3, status=503)
    await starting
    await asyncio.sleep(20)  # by now the first call is through
    assert await here.fired() == {"latency": 1, "front_status": 3}
    assert [effect for effect, _ in await here.moved(payment_id)].count("capture") == 1
    assert await here.effects(payment_id) == [("sale:1", "approved")]
    assert (await here.payment(payment_id)).status == "captured"


@pytest.mark.slow
async def test_a_lock_that_runs_out_while_a_call_is_under_way_keeps_its_rate(here: World) -> None:
    """The call began inside the lock and goes on; that its effect is not to be seen yet does not mean it was not sent."""
    here.stripe.promises = here.stripe.promises.model_copy(update={"longest_call_seconds": 12})
    here.lock(6)
    await here.plant("latency", milliseconds=9_000)
    payment = await here.pay(slippage_max_bps=500)
    assert payment.status == "captured"
    assert await here.effects(payment.id) == [("sale:1", "approved")]
    assert await here.database.read(_quotes) == [payment.quote_id]


@pytest.mark.slow
async def test_a_worker_whose_clock_is_ahead_takes_no_running_call_for_absent(here: World) -> None:
    """By its clock the lock ran out an hour ago; by the database's it holds, and the call goes on that takes the money."""
    here.stripe.promises = here.stripe.promises.model_copy(update={"longest_call_seconds": 12})
    await here.plant("latency", milliseconds=9_000)
    payment_id = await here.accept(slippage_policy="reject")
    starting = asyncio.create_task(here.start(payment_id))
    await here.under_way()
    here.clock_of_workers(timedelta(hours=1))
    await starting
    await asyncio.sleep(8)  # by now the first call is through
    assert await here.effects(payment_id) == [("sale:1", "approved")]
    assert (await here.payment(payment_id)).status == "captured"


@pytest.mark.slow
async def test_what_never_arrives_in_any_round_is_given_up_under_its_one_key(here: World) -> None:
    await here.plant("reset_before_effect", times=FOR_EVER)
    payment = await here.pay()
    assert (payment.status, payment.status_reason) == ("failed", "not_sent")
    assert await here.effects(payment.id) == [("sale:1", "not_sent")]
    assert await here.moved(payment.id) == []


async def test_what_never_arrives_twice_fails_as_not_sent(here: World) -> None:
    here.without_keys()
    await here.plant("reset_before_effect", times=FOR_EVER)
    payment = await here.pay()
    assert (payment.status, payment.status_reason) == ("failed", "not_sent")
    assert await here.moved(payment.id) == []


async def test_a_cancel_that_comes_before_anything_was_sent_stops_a_second_try(here: World) -> None:
    here.without_keys()
    await here.plant("latency", milliseconds=300)
    await here.plant("reset_before_effect")
    payment_id = await here.accept()
    starting = asyncio.create_task(here.start(payment_id))
    await here.under_way()
    answer = await here.cancel(payment_id)
    await starting
    assert (answer["refused"], answer["status"]) == ("state_conflict", "failed")
    assert await here.effects(payment_id) == [("sale:1", "not_sent")]
    assert await here.moved(payment_id) == []


async def _provider_goes_away(here: World) -> None:
    """It took the money, withheld the answer, and now answers no question either."""
    here.without_keys()
    await here.plant("timeout_after_effect")
    await here.plant("status", "payment_intents.list", times=FOR_EVER, status=503)


async def test_a_provider_that_is_down_ends_in_a_review_that_its_own_evidence_closes(
    everywhere: World,
) -> None:
    await _provider_goes_away(everywhere)
    payment = await everywhere.pay()
    assert (payment.status, payment.status_reason) == ("requires_review", "outcome_unknown")
    review = await everywhere.review(payment.id)
    assert any("look-up failed" in look["note"] for look in review.evidence["looks"])
    await everywhere.heal()
    await everywhere.hint(payment.id)
    payment = await everywhere.until(payment.id, "captured")
    assert payment.settle_by is not None
    await everywhere.settle()
    await everywhere.until(payment.id, "settled")


async def test_a_person_who_found_the_effect_decides_while_the_provider_is_still_down(here: World) -> None:
    await _provider_goes_away(here)
    payment = await here.pay()
    answer = await here.decide(payment.id, "found")
    assert (answer["refused"], answer["status"]) == (None, "captured")


async def test_a_person_who_proved_absence_ends_the_payment(here: World) -> None:
    here.without_keys()
    await here.plant("reset_before_effect")
    await here.plant("status", "payment_intents.list", times=FOR_EVER, status=503)
    payment = await here.pay()
    answer = await here.decide(payment.id, "absent")
    assert (answer["refused"], answer["status"]) == (None, "failed")
    assert (await here.payment(payment.id)).status_reason == "not_sent"


async def test_of_two_persons_who_decide_at_once_one_is_heard(here: World) -> None:
    """The loser's decision must not be taken for a cancel of the authorisation that the winner found."""
    await _provider_goes_away(here)
    payment = await here.authorize()
    assert payment.status == "requires_review"
    await asyncio.gather(*(here.decide(payment.id, "found") for _ in range(2)), return_exceptions=True)
    await asyncio.sleep(1)
    assert (await here.payment(payment.id)).status == "authorized"


async def test_a_cancel_is_refused_while_the_outcome_is_unknown(here: World) -> None:
    await _provider_goes_away(here)
    payment = await here.pay()
    answer = await here.cancel(payment.id)
    assert answer["refused"] == "outcome_unknown"
    await here.decide(payment.id, "found")


async def test_an_unknown_capture_that_a_person_found_absent_leaves_the_authorisation(here: World) -> None:
    payment = await here.authorize()
    here.without_keys()
    await here.plant("reset_before_effect", "payment_intents.capture")
    await here.plant("status", "payment_intents.retrieve", times=FOR_EVER, status=503)
    answer = await here.capture(payment.id)
    assert (answer["refused"], answer["status"]) == ("outcome_unknown", "requires_review")
    assert (await here.decide(payment.id, "absent"))["status"] == "authorized"
    await here.heal()
    assert (await here.capture(payment.id))["status"] == "captured"


async def test_an_unknown_capture_whose_authorisation_lapsed_meanwhile_ends_the_payment(here: World) -> None:
    """Nobody decided, and the network let go: the provider says that the capture will never be."""
    payment = await here.authorize()
    here.without_keys()
    await here.plant("reset_before_effect", "payment_intents.capture")
    await here.plant("status", "payment_intents.retrieve", times=FOR_EVER, status=503)
    assert (await here.capture(payment.id))["status"] == "requires_review"
    await here.heal()
    (await here.control.post("/control/clock", json={"advance_seconds": 8 * 86_400})).raise_for_status()
    await here.hint(payment.id)
    assert (await here.until(payment.id, "authorized", "expired")).status_reason is None
    assert (await here.cancel(payment.id))["status"] == "canceled"


async def test_a_hold_that_was_found_under_no_reference_is_shown_and_not_parked(here: World) -> None:
    """Nobody can release what has no name; that is a person's matter and must not stop the workflow."""
    await _provider_goes_away(here)
    payment = await here.authorize()
    assert (await here.decide(payment.id, "found"))["status"] == "authorized"
    await here.database.write(_forget_the_reference, payment.id)
    answer = await here.cancel(payment.id)
    assert (answer["refused"], answer["status"]) == ("outcome_unknown", "requires_review")
    assert (await here.payment(payment.id)).status_reason == "compensation_stuck"


def _forget_the_reference(connection: Connection, payment_id: str) -> None:
    connection.execute(
        update(payments_table).where(payments_table.c.id == payment_id).values(provider_reference=None)
    )


async def test_after_the_life_of_a_key_nothing_is_repeated_under_it(here: World) -> None:
    """The repeat comes later than the provider remembers keys: only a look-up can tell, and nothing more is sent."""
    here.stripe.promises = here.stripe.promises.model_copy(
        update={"key_life_seconds": KEY_LIFE_MARGIN_SECONDS + 1}
    )
    await here.plant("reset_before_effect", times=FOR_EVER)
    payment = await here.pay()
    assert await here.fired() == {"reset_before_effect": 1}
    assert (payment.status, payment.status_reason) == ("failed", "not_sent")
    assert await here.effects(payment.id) == [("sale:1", "not_sent")]
    assert await here.moved(payment.id) == []


async def test_an_effect_that_was_prepared_yesterday_is_sent_today(here: World) -> None:
    """The key is older than its life, but nobody has used it yet."""
    payment_id = await here.accept(settle_currency="EUR", destination_country="DE")
    ours = here.wired.edge.now
    object.__setattr__(here.wired.edge, "now", lambda: ours() + timedelta(hours=1))
    here.stripe.promises = here.stripe.promises.model_copy(
        update={"key_life_seconds": KEY_LIFE_MARGIN_SECONDS + 1_800}
    )
    starting = asyncio.create_task(here.start(payment_id))
    while not await here.effects(payment_id):
        await asyncio.sleep(0)
    object.__setattr__(here.wired.edge, "now", lambda: ours() + timedelta(hours=2))
    await starting
    assert await here.effects(payment_id) == [("sale:1", "approved")]
    assert (await here.payment(payment_id)).status == "captured"


async def test_an_effect_declared_by_a_clock_that_is_behind_is_no_older_than_its_payment(here: World) -> None:
    """Where it is yesterday the key would look spent before its second use, and a look-up would read a day's list."""
    ours = here.wired.edge.now
    object.__setattr__(here.wired.edge, "now", lambda: ours() - timedelta(hours=25))
    await here.plant("reset_before_effect")
    payment = await here.pay(settle_currency="EUR", destination_country="DE")
    (effect,) = await here.database.read(effects.of_payment, payment.id)
    assert (effect.state, payment.status) == ("approved", "captured")
    assert effect.declared_at >= payment.created_at


async def test_a_lock_taken_by_a_clock_that_is_behind_holds_for_the_others(here: World) -> None:
    """Where it is yesterday it would end yesterday; whoever sends with the right time would find it expired."""
    ours = here.wired.edge.now
    payment_id = await here.accept(slippage_policy="reject")
    object.__setattr__(here.wired.edge, "now", lambda: ours() - timedelta(hours=25))
    await here.plant("reset_before_effect")
    starting = asyncio.create_task(here.start(payment_id))
    await here.under_way("reset_before_effect")
    object.__setattr__(here.wired.edge, "now", ours)
    await starting
    assert (await here.payment(payment_id)).status == "captured"
    assert await here.effects(payment_id) == [("sale:1", "approved")]


async def test_a_hint_that_overtakes_the_answer_changes_nothing(here: World) -> None:
    payment_id = await here.accept("pm_card_visa_sandbox_slow")
    here.stripe._capabilities = here.stripe.capabilities.model_copy(update={"call_timeout_seconds": 4})
    starting = asyncio.create_task(here.start(payment_id))
    await here.under_way()
    await here.hint(payment_id)
    await starting
    assert await here.effects(payment_id) == [("sale:1", "approved")]
    assert (await here.payment(payment_id)).status == "captured"


async def test_the_providers_webhook_ends_the_wait_for_the_next_look(here: World) -> None:
    """Routed by the relay from the provider's own event; the next look would have come twenty seconds later."""
    here.stripe.promises = here.stripe.promises.model_copy(
        update={"key_life_seconds": None, "lookup_lag_seconds": 20}
    )
    await here.plant("status", status=502, effect=True)
    await here.plant("status", "payment_intents.list", status=503)
    payment_id = await here.accept()
    starting = asyncio.create_task(here.start(payment_id))
    async with asyncio.timeout(60):
        while (await here.fired()).get("status") != 2:
            await asyncio.sleep(0.1)
    async with asyncio.timeout(15):
        assert await here.route_webhooks() > 0
        await starting
    assert (await here.payment(payment_id)).status == "captured"


def _quotes(connection: Connection) -> list[str]:
    return list(connection.execute(select(quotes.c.id)).scalars())


async def _looks(here: World, payment_id: str) -> int:
    """How often the payment's workflow has asked the provider what became of it."""
    history = await here.handle(payment_id).fetch_history()
    return sum(
        event.HasField("activity_task_scheduled_event_attributes")
        and event.activity_task_scheduled_event_attributes.activity_type.name == "provider.look_up.v1"
        for event in history.events
    )


async def test_repeated_hints_count_once(here: World) -> None:
    payment = await here.pay("pm_card_threeDSecure2Required")
    for _ in range(5):
        await here.hint(payment.id, "evt_same")
    async with asyncio.timeout(20):
        while not await _looks(here, payment.id):
            await asyncio.sleep(0.1)
    await asyncio.sleep(1.5)  # the repeats have had their chance
    assert await _looks(here, payment.id) == 1
    await here.finish_challenge(payment.id)
    await here.hint(payment.id, "evt_other")
    await here.until(payment.id, "captured")


async def test_an_answer_nobody_understands_is_looked_up(here: World) -> None:
    here.without_keys()
    await here.plant("garbage_body")
    payment = await here.pay(capture_method=CaptureMethod.MANUAL)
    assert payment.status == "authorized"
