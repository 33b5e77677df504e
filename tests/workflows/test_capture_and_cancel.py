"""Manual capture, business cancel and Temporal cancel: whoever comes too late hears so, and the money is right."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import Connection, update
from temporalio.client import WorkflowUpdateFailedError
from temporalio.testing import ActivityEnvironment

from activities.contracts import DeclareIn, ExecuteIn, RequoteIn
from activities.payment_steps import PaymentSteps
from activities.provider_steps import ProviderSteps
from corridor.domain.effect import Operation
from corridor.domain.failure import Refusal, Refused
from corridor.domain.outcome import Evidence, Outcome, ProviderAnswer
from corridor.domain.payment import CaptureMethod
from corridor.fx.desk import Desk
from corridor.fx.store import get_quote
from corridor.providers.stripe import mapping
from corridor.storage import effects
from corridor.storage.tables import merchants
from tests.workflows.world import World, now

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOR_EVER = 1000


@pytest.mark.parametrize("minor", [None, 4_000], ids=["full", "partial"])
async def test_a_capture_takes_what_was_asked_for(everywhere: World, minor: int | None) -> None:
    payment = await everywhere.authorize()
    assert payment.status == "authorized"
    answer = await everywhere.capture(payment.id, minor)
    assert (answer["refused"], answer["status"]) == (None, "captured")
    assert ("capture", minor or 10_000) in await everywhere.moved(payment.id)
    await everywhere.settle()
    assert (await everywhere.until(payment.id, "settled")).settled_charged_minor == (minor or 10_000)


async def test_a_capture_above_the_authorised_amount_is_refused_and_changes_nothing(here: World) -> None:
    payment = await here.authorize()
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await here.capture(payment.id, 10_001)
    assert getattr(refused.value.cause, "type", None) == "capture_exceeds_authorized"
    assert await here.effects(payment.id) == [("authorise:1", "approved")]


async def test_of_two_captures_at_once_one_is_made(here: World) -> None:
    payment = await here.authorize()
    answers = await asyncio.gather(here.capture(payment.id, 4_000), here.capture(payment.id, 5_000))
    assert sorted(str(answer["refused"]) for answer in answers) == ["None", "state_conflict"]
    assert [key for key, _ in await here.effects(payment.id)] == ["authorise:1", "capture:1"]


async def test_a_timeout_after_a_capture_is_looked_up(here: World) -> None:
    payment = await here.authorize()
    here.without_keys()
    await here.plant("timeout_after_effect", "payment_intents.capture")
    assert (await here.capture(payment.id))["status"] == "captured"


async def test_a_cancel_voids_the_authorisation(everywhere: World) -> None:
    payment = await everywhere.authorize()
    answer = await everywhere.cancel(payment.id)
    assert (answer["refused"], answer["status"]) == (None, "canceled")
    assert ("cancel", 10_000) in await everywhere.moved(payment.id)


async def test_a_void_that_never_arrived_is_made_again_before_the_payment_is_called_canceled(
    here: World,
) -> None:
    payment = await here.authorize()
    here.without_keys()
    await here.plant("reset_before_effect", "payment_intents.cancel")
    answer = await here.cancel(payment.id)
    assert answer["status"] == "canceled"
    assert ("cancel", 10_000) in await here.moved(payment.id)
    assert ("void:1", "not_sent") in await here.effects(payment.id)


async def test_a_timeout_after_a_void_is_looked_up(here: World) -> None:
    payment = await here.authorize()
    here.without_keys()
    await here.plant("timeout_after_effect", "payment_intents.cancel")
    assert (await here.cancel(payment.id))["status"] == "canceled"


async def test_a_cancel_while_a_sale_is_in_flight_waits_and_is_refused(here: World) -> None:
    payment_id = await here.accept()
    await here.plant("latency", milliseconds=1000)
    starting = asyncio.create_task(here.start(payment_id))
    await here.under_way()
    answer = await here.cancel(payment_id)
    assert (answer["refused"], answer["status"]) == ("state_conflict", "captured")
    await starting


async def test_a_cancel_while_an_authorisation_is_in_flight_voids_it(here: World) -> None:
    payment_id = await here.accept(capture_method=CaptureMethod.MANUAL)
    await here.plant("latency", milliseconds=1000)
    starting = asyncio.create_task(here.start(payment_id))
    await here.under_way()
    answer = await here.cancel(payment_id)
    assert (answer["refused"], answer["status"]) == (None, "canceled")
    await starting


async def test_a_cancel_after_the_capture_is_refused(here: World) -> None:
    payment = await here.pay()
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await here.cancel(payment.id)
    assert getattr(refused.value.cause, "type", None) == "state_conflict"


async def test_a_cancel_after_a_partial_capture_that_never_happened_releases_all_that_is_held(
    here: World,
) -> None:
    payment = await here.authorize()
    here.without_keys()
    await here.plant("status", "payment_intents.capture", times=FOR_EVER, status=503)
    assert (await here.capture(payment.id, 6_000))["refused"] == "outcome_unknown"
    assert (await here.decide(payment.id, "absent"))["status"] == "authorized"
    assert (await here.cancel(payment.id))["status"] == "canceled"
    assert ("cancel", 10_000) in await here.moved(payment.id)
    void = (await here.database.read(effects.of_payment, payment.id))[-1]
    assert (void.operation, void.state, void.amount_minor) == ("void", "approved", 10_000)


async def test_a_temporal_cancel_before_the_capture_voids_and_completes(here: World) -> None:
    payment = await here.authorize()
    await here.handle(payment.id).cancel()
    payment = await here.until(payment.id, "canceled")
    assert payment.status_reason == "canceled_by_operator"
    assert (await here.handle(payment.id).result())["status"] == "canceled"


async def test_a_temporal_cancel_in_the_middle_of_a_call_loses_no_answer(here: World) -> None:
    payment_id = await here.accept()
    await here.plant("latency", milliseconds=1000)
    starting = asyncio.create_task(here.start(payment_id))
    await here.under_way()
    await here.handle(payment_id).cancel()
    await starting
    assert (await here.payment(payment_id)).status == "captured"
    await here.settle()
    await here.until(payment_id, "settled")


async def test_a_temporal_cancel_after_the_capture_leaves_it_to_settle(here: World) -> None:
    payment = await here.pay()
    await here.handle(payment.id).cancel()
    await here.settle()
    await here.until(payment.id, "settled")


# --- FX locks that run out between the authorisation and the capture --------------------------------------------


async def _authorised_with_a_lock_that_ran_out(here: World, **changes: object) -> str:
    here.lock(5)
    payment = await here.authorize(**changes)
    assert payment.status == "authorized"
    await asyncio.sleep(3.5)
    here.lock(1800)
    return str(payment.id)


async def test_a_lock_that_ran_out_before_the_capture_is_renewed_inside_the_slippage_limit(
    everywhere: World,
) -> None:
    payment_id = await _authorised_with_a_lock_that_ran_out(everywhere, slippage_max_bps=500)
    before = (await everywhere.payment(payment_id)).quote_id
    assert (await everywhere.capture(payment_id))["status"] == "captured"
    assert (await everywhere.payment(payment_id)).quote_id != before
    await everywhere.settle()
    await everywhere.until(payment_id, "settled")


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(hours=-1)])
async def test_a_worker_with_a_wrong_clock_gets_a_rate_and_holds_it_for_as_long_as_any(
    everywhere: World, ahead: timedelta
) -> None:
    """By its own clock every offer would be over, or hold for an hour longer than it does."""
    everywhere.clock_of_workers(ahead)
    begun = now()
    payment = await everywhere.pay()
    assert payment.status == "captured"
    quote, _ = await everywhere.database.read(get_quote, payment.merchant_id, payment.quote_id, now())
    lock = timedelta(seconds=everywhere.wired.edge.lock_seconds)
    assert begun < quote.expires_at - lock < now() + timedelta(seconds=1)


async def test_a_worker_with_a_clock_ahead_captures_at_the_rate_that_is_locked(everywhere: World) -> None:
    payment = await everywhere.authorize()
    everywhere.clock_of_workers(timedelta(hours=1))
    assert (await everywhere.capture(payment.id))["status"] == "captured"
    assert (await everywhere.payment(payment.id)).quote_id == payment.quote_id


async def test_a_worker_with_a_clock_behind_captures_nothing_at_a_rate_that_has_run_out(
    everywhere: World,
) -> None:
    payment_id = await _authorised_with_a_lock_that_ran_out(everywhere, slippage_policy="reject")
    everywhere.clock_of_workers(-timedelta(hours=1))
    assert (await everywhere.capture(payment_id))["status"] == "failed"
    assert ("capture", 10_000) not in await everywhere.moved(payment_id)


async def test_a_worker_with_a_clock_behind_renews_a_lock_that_has_run_out(here: World) -> None:
    payment_id = await _authorised_with_a_lock_that_ran_out(here, slippage_max_bps=500)
    before = (await here.payment(payment_id)).quote_id
    here.clock_of_workers(-timedelta(hours=1))
    assert (await here.capture(payment_id))["status"] == "captured"
    assert (await here.payment(payment_id)).quote_id != before


async def test_a_run_that_counts_its_captures_anew_comes_upon_the_one_under_a_second_key(here: World) -> None:
    """A run before it spent the first key and sent under a second; its worker was killed before it recorded that."""
    payment = await here.authorize()
    edge, environment = here.wired.edge, ActivityEnvironment()
    for number in (1, 2):
        wanted = DeclareIn(
            payment_id=payment.id, object_id=payment.id, operation=Operation.CAPTURE, number=number
        )
        await environment.run(PaymentSteps(edge).declare, wanted)
        if number == 1:
            await here.database.write(_never_sent, f"{payment.id}:capture:1")
    second = await here.database.read(effects.get, f"{payment.id}:capture:2")
    await here.stripe.send(second.key, Operation.CAPTURE, effects.request(second))
    assert (await here.capture(payment.id))["status"] == "captured"
    assert dict(await here.effects(payment.id))["capture:2"] == "approved"
    assert [effect for effect, _ in await here.moved(payment.id)].count("capture") == 1


def _never_sent(connection: Connection, key: str) -> None:
    answer = ProviderAnswer(outcome=Outcome.NOT_SENT, evidence=Evidence(seen_at=now()))
    effects.record(connection, effects.get(connection, key), answer, now())


async def test_a_rate_outside_the_slippage_limit_voids_the_authorisation_and_fails_the_payment(
    here: World,
) -> None:
    payment_id = await _authorised_with_a_lock_that_ran_out(here, slippage_max_bps=50)
    await here.database.write(_charge, 400)
    answer = await here.capture(payment_id)
    assert (answer["refused"], answer["status"]) == ("slippage_exceeded", "failed")
    assert ("cancel", 10_000) in await here.moved(payment_id)


async def test_a_merchant_who_wants_no_other_rate_gets_the_authorisation_voided(here: World) -> None:
    payment_id = await _authorised_with_a_lock_that_ran_out(here, slippage_policy="reject")
    assert (await here.capture(payment_id))["status"] == "failed"
    assert ("cancel", 10_000) in await here.moved(payment_id)


async def test_rates_that_get_worse_step_by_step_are_measured_against_the_first_lock(here: World) -> None:
    payment_id = await _authorised_with_a_lock_that_ran_out(here, slippage_max_bps=250)
    requote = PaymentSteps(here.wired.edge).requote
    answers = []
    for markup in (200, 400):  # each 200 worse than the lock before it; the first lock was at 40
        await here.database.write(_charge, markup)
        here.lock(1)
        answers.append(await ActivityEnvironment().run(requote, RequoteIn(payment_id=payment_id)))
        await asyncio.sleep(0.1)
    here.lock(1800)
    assert [answer.accepted for answer in answers] == [True, False]
    assert answers[1].reason == "slippage_exceeded"


async def test_a_rate_that_gives_no_fit_amount_is_no_rate(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment_id = await _authorised_with_a_lock_that_ran_out(here)

    def too_little(*_: object) -> None:
        raise Refused(Refusal.AMOUNT_OUT_OF_RANGE, "less than one minor unit")

    monkeypatch.setattr(Desk, "quote", too_little)
    requote = PaymentSteps(here.wired.edge).requote
    answer = await ActivityEnvironment().run(requote, RequoteIn(payment_id=payment_id))
    assert (answer.accepted, answer.reason) == (False, "rate_unavailable")


def _charge(connection: Connection, markup_bps: int) -> None:
    connection.execute(update(merchants).values(fx_markup_bps=markup_bps))


# --- the network's window ---------------------------------------------------------------------------------------


async def test_an_authorisation_the_network_released_first_expires(here: World) -> None:
    payment = await here.authorize()
    (await here.control.post("/control/clock", json={"advance_seconds": 8 * 86_400})).raise_for_status()
    answer = await here.capture(payment.id)
    assert (answer["refused"], answer["status"]) == ("authorization_expired", "expired")


async def test_an_authorisation_whose_network_names_no_end_ends_with_the_providers_longest(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "_capture_before", lambda _: None)
    payment = await here.authorize()
    assert payment.status == "authorized"
    life = timedelta(seconds=here.stripe.capabilities.authorization_life_seconds)
    assert timedelta(0) <= payment.updated_at + life - payment.authorization_expires_at < timedelta(minutes=1)


async def test_nothing_is_sent_for_a_payment_whose_new_rate_was_refused(here: World) -> None:
    here.lock(2)  # not longer than the call may take: the lock is over before anything is sent
    payment = await here.pay(slippage_policy="reject")
    assert (payment.status, payment.status_reason) == ("failed", "slippage_exceeded")
    assert await here.effects(payment.id) == [("sale:1", "not_sent")]
    assert await here.moved(payment.id) == []


async def test_a_lock_that_is_over_whenever_it_is_used_ends_the_payment(here: World) -> None:
    """As where the sender's clock is ahead of the others': each new lock is over for it, and asking has an end."""
    here.lock(2)
    payment = await here.pay(slippage_policy="requote")
    assert (payment.status, payment.status_reason) == ("failed", "rate_unavailable")
    assert await here.effects(payment.id) == [("sale:1", "not_sent")]
    assert await here.moved(payment.id) == []


async def test_a_capture_without_a_rate_is_refused_for_that(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment_id = await _authorised_with_a_lock_that_ran_out(here)
    monkeypatch.setattr(Desk, "ask", _no_rate)
    answer = await here.capture(payment_id)
    assert (answer["refused"], answer["status"]) == ("rate_unavailable", "failed")
    assert ("cancel", 10_000) in await here.moved(payment_id)


async def _no_rate(*_: object) -> None:
    raise Refused(Refusal.RATE_UNAVAILABLE, "no provider quotes")


async def test_a_late_attempt_does_not_collect_for_a_payment_that_has_ended(here: World) -> None:
    payment = await here.authorize()
    declaring = DeclareIn(payment_id=payment.id, object_id=payment.id, operation=Operation.CAPTURE, number=1)
    plan = (await ActivityEnvironment().run(PaymentSteps(here.wired.edge).declare, declaring)).plan
    await here.cancel(payment.id)
    late = await ActivityEnvironment().run(
        ProviderSteps(here.wired.edge).execute, ExecuteIn(effect_key=plan.effect_key)
    )
    assert (late.outcome, late.status) == ("unknown", "canceled")
    assert dict(await here.effects(payment.id))["capture:1"] == "declared"  # sent, it would be declined
