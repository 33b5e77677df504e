"""What-ifs over real payments: every record reproduces itself, and only what the past tells is told."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, update
from temporalio.client import Client

from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.fx.store import get_quote
from corridor.ledger import store
from corridor.storage.tables import quotes, risk_decisions
from tests.workflows.lost import expire
from tests.workflows.world import World, now
from workers.whatif import past as whatif_past
from workers.whatif import policy as whatif_policy
from workers.whatif.finding import Result
from workers.whatif.whatif import Report, replay

pytestmark = pytest.mark.asyncio(loop_scope="session")

LARGE = Money(600_000, "EUR")
HUGE = Money(2_100_000, "EUR")


async def report(here: World, directory: Path, text: str) -> Report:
    path = directory / "change.toml"
    path.write_text(text, "utf-8")

    async def connect() -> Client:
        return here.client

    change = whatif_policy.read(path)
    return await replay(
        here.database, connect, change, now() - timedelta(hours=1), now() + timedelta(hours=1)
    )


def results(made: Report) -> dict[str, Result]:
    return {judged.payment_id: judged.result for judged in made.judged}


def why(made: Report, payment_id: str) -> str:
    (judged,) = (it for it in made.judged if it.payment_id == payment_id)
    (finding,) = (it for it in judged.findings if it.result is not Result.UNCHANGED)
    return finding.why


async def test_every_kind_of_payment_reproduces_itself_under_its_own_policy(
    everywhere: World, tmp_path: Path
) -> None:
    instrument = new_id(Prefix.REQUEST, now())
    for _ in range(2):
        await everywhere.pay(instrument=instrument, payer_reference="buyer-1")
    await everywhere.pay("pm_card_authenticationRequired")
    await everywhere.pay(amount=LARGE)
    await everywhere.pay(amount=HUGE)
    await everywhere.pay(amount=Money(12_345, "USD"))
    await everywhere.pay(settle_currency="EUR", destination_country="DE")
    everywhere.without_keys()
    await everywhere.plant("timeout_after_effect")
    await everywhere.pay()
    made = await report(
        everywhere, tmp_path, "[limits]\n[fx]\nmarkup_change_bps = 0\n[retry]\nmaximum_attempts = 1\n"
    )
    assert made.faith.unfaithful == []
    assert (made.faith.decisions, made.faith.not_checkable) == (8, 0)
    assert made.faith.quotes == 5
    for section in ("risk", "fx", "retry"):
        assert made.counts(section) == {"unchanged": 8, "changed": 0, "not_observable": 0}
    assert made.totals() == {}


async def test_pages_join_without_a_gap_or_a_repeat(
    everywhere: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [(await everywhere.pay()).id for _ in range(5)]
    monkeypatch.setattr(whatif_past, "PAGE", 2)
    assert list(results(await report(everywhere, tmp_path, "[limits]\n"))) == made


async def test_a_record_that_does_not_follow_from_its_inputs_is_unfaithful(
    here: World, tmp_path: Path
) -> None:
    decided, quoted, sound = [(await here.pay()) for _ in range(3)]

    def spoil(connection: Connection) -> None:
        of_first = risk_decisions.c.payment_id == decided.id
        inputs = connection.execute(select(risk_decisions.c.inputs).where(of_first)).scalar_one()
        connection.execute(
            update(risk_decisions).where(of_first).values(inputs={**inputs, "source_country": "KP"})
        )
        of_second = quotes.c.id == quoted.quote_id
        body = connection.execute(select(quotes.c.body).where(of_second)).scalar_one()
        cheaper = {**body, "buy_amount": {**body["buy_amount"], "minor": body["buy_amount"]["minor"] + 1}}
        connection.execute(update(quotes).where(of_second).values(body=cheaper))

    await here.database.write(spoil)
    made = await report(here, tmp_path, "[limits]\n")
    assert made.faith.unfaithful == [decided.id, quoted.quote_id]
    assert made.document()["faithful"]["unfaithful_count"] == 2
    assert sound.id not in made.faith.unfaithful


async def test_a_tighter_limit_tells_what_would_not_have_been_collected(
    everywhere: World, tmp_path: Path
) -> None:
    small = await everywhere.pay(amount=Money(5_000, "EUR"))
    payment = await everywhere.pay()
    await everywhere.settle()
    await everywhere.until(small.id, "settled")
    settled = await everywhere.until(payment.id, "settled")
    fees, spread = [
        -(await everywhere.database.read(store.balance, f"income/{name}/CNY")).minor
        for name in ("fees", "fx_spread")
    ]
    everything = await report(
        everywhere, tmp_path, '[limits]\nreview_above_eur = "0.50"\nmaximum_eur = "0.60"\n'
    )
    assert everything.totals()["CNY"]["fee_income"] == -fees
    assert everything.totals()["CNY"]["fx_spread_income"] == -spread
    made = await report(everywhere, tmp_path, '[limits]\nreview_above_eur = "60.00"\nmaximum_eur = "60.00"\n')
    assert results(made) == {small.id: Result.UNCHANGED, payment.id: Result.CHANGED}
    assert made.totals()["EUR"] == {"collected": -10_000}
    assert made.totals()["CNY"]["merchant"] == -settled.settled_minor


async def test_money_that_went_back_to_the_buyer_is_not_lost_twice(here: World, tmp_path: Path) -> None:
    payment = await here.pay()
    await here.settle()
    await here.until(payment.id, "settled")
    await here.refund(payment.id, 4_000)
    available = f"merchant/{here.merchant_id}/available/CNY"
    left = -(await here.database.read(store.balance, available)).minor
    made = await report(here, tmp_path, '[limits]\nreview_above_eur = "60.00"\nmaximum_eur = "60.00"\n')
    assert made.totals()["EUR"] == {"collected": -6_000}
    assert made.totals()["CNY"]["merchant"] == -left


async def test_what_was_stopped_then_is_not_observable(here: World, tmp_path: Path) -> None:
    declined = await here.pay(amount=HUGE)
    refused = await here.pay(amount=LARGE)
    await here.decide(refused.id, "decline")
    approved = await here.pay(amount=LARGE)
    await here.decide(approved.id, "approve")
    await here.until(approved.id, "captured")
    waiting = await here.pay(amount=LARGE)
    made = await report(here, tmp_path, '[limits]\nreview_above_eur = "30000.00"\nmaximum_eur = "30000.00"\n')
    assert results(made) == {
        declined.id: Result.NOT_OBSERVABLE,
        refused.id: Result.NOT_OBSERVABLE,
        approved.id: Result.CHANGED,
        waiting.id: Result.NOT_OBSERVABLE,
    }
    assert why(made, declined.id).startswith("it was stopped then")
    assert why(made, approved.id) == "nobody would have been asked"
    assert why(made, waiting.id) == "a person is still being asked"
    assert made.totals() == {}
    await here.decide(waiting.id, "decline")


async def test_a_person_who_was_never_asked_has_no_answer(here: World, tmp_path: Path) -> None:
    payment = await here.pay()
    made = await report(here, tmp_path, '[limits]\nreview_above_eur = "50.00"\n')
    assert why(made, payment.id) == "a person would have been asked, and nobody was"


async def test_a_payment_that_would_have_been_declined_leaves_later_sums_open(
    here: World, tmp_path: Path
) -> None:
    """The second would be declined for the sum of both; but the first would not have been made."""
    instrument = new_id(Prefix.REQUEST, now())
    first = await here.pay(instrument=instrument, amount=Money(20_000, "EUR"))
    second = await here.pay(instrument=instrument, amount=Money(5_000, "EUR"))
    other = await here.pay(amount=Money(5_000, "EUR"))
    text = (
        '[limits]\nreview_above_eur = "150.00"\nmaximum_eur = "150.00"\n'
        '[limits.velocity.instrument-24h]\nreview_above_eur = "200.00"\ndecline_above_eur = "240.00"\n'
    )
    made = await report(here, tmp_path, text)
    assert results(made) == {
        first.id: Result.CHANGED,
        second.id: Result.NOT_OBSERVABLE,
        other.id: Result.UNCHANGED,
    }


async def test_another_markup_moves_exactly_what_the_books_would_have_held(
    here: World, tmp_path: Path
) -> None:
    payment = await here.pay()
    made = await report(here, tmp_path, "[fx]\nmarkup_bps = 90\n")
    (judged,) = made.judged
    figures = {it.figure: it.amount.minor for it in judged.money}
    quote, _ = await here.database.read(get_quote, here.merchant_id, payment.quote_id, now())
    assert results(made) == {payment.id: Result.CHANGED}
    # What the merchant does not get is ours: fee and spread take up the whole difference, to the minor unit.
    assert figures["merchant"] + figures.get("fee_income", 0) + figures["fx_spread_income"] == 0
    assert abs(10_000 * figures["fx_spread_income"] - 50 * quote.mid_amount.minor) <= 10_000


async def test_a_renewed_lock_is_judged_by_the_changed_slippage_limit(
    everywhere: World, tmp_path: Path
) -> None:
    everywhere.lock(5)
    payment = await everywhere.authorize(slippage_max_bps=500)
    await asyncio.sleep(3.5)
    everywhere.lock(1800)
    assert (await everywhere.capture(payment.id))["status"] == "captured"
    rejecting = await report(everywhere, tmp_path, '[fx]\nslippage_policy = "reject"\n')
    assert why(rejecting, payment.id) == "the new rate would have been past the slippage limit"
    assert rejecting.totals()["EUR"] == {"collected": -10_000}
    assert rejecting.faith.unfaithful == []
    assert results(await report(everywhere, tmp_path, "[fx]\nslippage_max_bps = 500\n")) == {
        payment.id: Result.UNCHANGED
    }


async def test_another_lock_time_has_no_price(here: World, tmp_path: Path) -> None:
    payment = await here.pay()
    made = await report(here, tmp_path, "[fx]\nlock_seconds = 900\n")
    assert why(made, payment.id) == "offers for another lock time were never asked for"
    (judged,) = made.judged
    assert judged.findings[0].detail == "the call fell inside the shorter lock"


async def test_tries_and_looks_come_from_the_history(here: World, tmp_path: Path) -> None:
    await here.plant("reset_before_effect", times=2)
    repeated = await here.pay()
    once = await here.pay()
    fewer = await report(here, tmp_path, "[retry]\nmaximum_attempts = 2\n")
    assert results(fewer) == {repeated.id: Result.NOT_OBSERVABLE, once.id: Result.UNCHANGED}
    assert why(fewer, repeated.id) == "it was decided by a try that would not have been made"
    assert (
        results(await report(here, tmp_path, "[retry]\nmaximum_attempts = 3\n"))[repeated.id]
        is Result.UNCHANGED
    )


async def test_a_history_that_expires_while_it_is_read_leaves_the_later_payments_observable(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired, kept = await here.pay(), await here.pay()
    expire(monkeypatch, (await here.handle(expired.id).describe()).run_id)
    made = await report(here, tmp_path, "[retry]\nmaximum_attempts = 2\n")
    assert made.without_history is None
    assert results(made) == {expired.id: Result.NOT_OBSERVABLE, kept.id: Result.UNCHANGED}


async def test_without_temporal_a_retry_policy_is_not_observable(here: World, tmp_path: Path) -> None:
    payment = await here.pay()
    path = tmp_path / "change.toml"
    path.write_text("[retry]\nmaximum_attempts = 2\n", "utf-8")

    async def connect() -> Client:
        raise RuntimeError("nobody listens")

    span: Any = (now() - timedelta(hours=1), now() + timedelta(hours=1))
    made = await replay(here.database, connect, whatif_policy.read(path), *span)
    assert results(made) == {payment.id: Result.NOT_OBSERVABLE}
    assert made.without_history == "Temporal cannot be reached: nobody listens"
