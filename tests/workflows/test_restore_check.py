"""The database came back older: from every moment of a payment's life it is brought up again, row for row.

Each scenario runs to its end while the database is copied before every transaction. Then each copy is repaired beside
the histories and the provider's books, and must equal the database that was never lost, ids and answers included.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from activities import provider_steps
from activities.contracts import EXECUTE, REQUOTE, SETTLE, Executed
from corridor.domain.accepted import Asked, NewPayment
from corridor.domain.money import Money
from corridor.domain.payment import CaptureMethod, Status
from corridor.ledger import proof
from corridor.runtime.crash import Crashed
from corridor.storage import events, idempotency, payments
from corridor.storage import merchants as merchants_of
from corridor.storage.idempotency import Claim, Replay
from corridor.storage.tables import event_positions, merchants, settlement_batches
from tests.workflows.earlier import check, copy_of, copying, empty, from_every_moment, on, read_as, rows
from tests.workflows.killed import find_no_rate, kill_after, nothing
from tests.workflows.world import World, now
from workers.histories import reading
from workers.restore import check as restore
from workers.restore.gaps import GapKind
from workflows import names, undo

pytestmark = pytest.mark.asyncio(loop_scope="session")

ASKED = Asked(idempotency_key="order-7781", fingerprint="f" * 64)


async def asked_for(here: World, **changes: Any) -> Any:
    """A payment accepted as the API does it, its request's key claimed in the same transaction."""
    new = here.order(asked=ASKED, **changes)
    await here.database.write(_accept, new)
    await here.start(new.id)
    return await here.payment(new.id)


def _accept(connection: Connection, new: NewPayment) -> None:
    at = now()
    idempotency.claim(connection, new.merchant_id, ASKED.idempotency_key, ASKED.fingerprint, new.id, at)
    payments.accept(connection, new, at)


async def pays_and_settles(here: World) -> None:
    payment = await asked_for(here)
    await here.settle()
    await here.until(payment.id, "settled")
    # Its history has the last step only when the task that took it has ended.
    await here.handle(payment.id).result()


async def captures_and_refunds(here: World) -> None:
    payment = await asked_for(here, capture_method=CaptureMethod.MANUAL)
    await here.capture(payment.id, 8_000)
    await here.refund(payment.id, 2_000)
    await here.settle()
    await here.until(payment.id, "settled")
    await here.refund(payment.id, 1_000)


async def is_challenged_and_canceled(here: World) -> None:
    payment = await here.pay("pm_card_authenticationRequired")
    await here.cancel(payment.id)
    await here.pay("pm_card_authenticationRequired")


async def is_declined(here: World) -> None:
    await here.pay("pm_card_chargeDeclined")


async def is_reviewed_and_voided(here: World) -> None:
    payment = await here.authorize(amount=Money(600_000, "EUR"))
    await here.decide(payment.id, "approve")
    await here.until(payment.id, "authorized")
    await here.cancel(payment.id)
    other = await here.pay(amount=Money(600_000, "EUR"))
    await here.decide(other.id, "decline")
    await here.until(other.id, "failed")


async def times_out_after_the_effect(here: World) -> None:
    payment_id = await here.accept("pm_card_visa_sandbox_timeoutAfterEffect")
    await here.start(payment_id)
    await here.until(payment_id, "captured")


async def refunds_by_a_clock_that_is_behind(here: World) -> None:
    payment = await asked_for(here)
    ours = here.wired.edge.now
    object.__setattr__(here.wired.edge, "now", lambda: ours() - timedelta(hours=25))
    await here.refund(payment.id, 2_000)
    await here.pay()
    object.__setattr__(here.wired.edge, "now", ours)
    await here.refund(payment.id, 1_000)


def lose_the_first_answer(patch: pytest.MonkeyPatch) -> list[str]:
    """The first outcome that is committed is told nobody. Returns that it happened, as it happens."""
    lost: list[str] = []

    def lose(point: str) -> None:
        if point == "outcome.committed" and not lost:
            lost.append(point)
            raise Crashed(point)

    patch.setattr(provider_steps, "crash_point", lose)
    return lost


async def answers_again_when_it_has_been_refunded(here: World) -> None:
    """The step's first answer was lost on its way; when it is given again, the payment has moved on."""
    with pytest.MonkeyPatch.context() as patch:
        lost = lose_the_first_answer(patch)
        payment_id = await here.accept()
        starting = asyncio.create_task(here.start(payment_id))
        await here.until(payment_id, "captured")
        await here.refund(payment_id, 1_000)
        await starting
    assert lost


async def begins_anew_after_it_was_captured(here: World) -> None:
    """The new run finds what the one before it did, and tells of its preparation that the payment is captured."""
    payment = await asked_for(here)
    await here.begin_anew(payment.id)
    await here.settle()
    await here.until(payment.id, "settled")
    await here.handle(payment.id).result()


async def settles_unheard_and_begins_anew(here: World) -> None:
    """The worker that booked the settlement is killed, and the new run finds its payment settled before it settles it."""
    payment, has_begun = await asked_for(here), asyncio.Event()

    async def begin_anew() -> None:
        await here.begin_anew(payment.id)
        has_begun.set()

    with pytest.MonkeyPatch.context() as patch:
        kill_after(here, patch, "_settle", begin_anew)
        await here.settle()
        await has_begun.wait()
        await here.handle(payment.id).result()


async def is_asked_about_again(here: World) -> None:
    """The worker that opened the review is killed; the next one finds it open."""
    await here.plant("status", status=500, stored=True)
    with pytest.MonkeyPatch.context() as patch:
        kill_after(here, patch, "_open", nothing)
        payment = await here.pay()
    await here.decide(payment.id, "absent")


async def loses_its_answer_and_begins_anew(here: World) -> None:
    """What the first run captured was told nobody; the new run finds it, and tells of its preparation what came after."""
    with pytest.MonkeyPatch.context() as patch:
        lost = lose_the_first_answer(patch)
        payment_id = await here.accept()
        await here.start_unheard(payment_id)
        await here.until(payment_id, "captured")
        await here.begin_anew(payment_id)
        await here.settle()
        await here.handle(payment_id).result()
    assert lost


async def renews_its_lock_and_is_reset(here: World) -> None:
    """The new run begins with a copy of the first renewal; the run before it had renewed the lock once more."""
    here.lock(1)
    payment_id = await here.accept(slippage_max_bps=500)
    await here.start_unheard(payment_id)
    async with asyncio.timeout(30):
        while len((first := await here.told(payment_id)).of(REQUOTE)) < 2:
            await asyncio.sleep(0.05)
    here.lock(1800)
    await here.reset(payment_id)
    await here.until(payment_id, "captured")
    copied = (await here.told(payment_id)).of(REQUOTE)[0]
    assert copied == first.of(REQUOTE)[0]
    assert copied.result.quote_id != (await here.payment(payment_id)).quote_id


async def is_stuck_and_is_reset(here: World) -> None:
    """The new run begins with a copy of the answer that sent the buyer to the bank; by now a person is asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(undo.voided, "__defaults__", ((),))
        payment = await here.pay("pm_card_authenticationRequired")
        here.without_keys()
        await here.plant("reset_before_effect", "payment_intents.cancel")
        assert (await here.cancel(payment.id))["refused"] == "outcome_unknown"
        await here.reset(payment.id)
        (sent,) = (it for it in (await here.told(payment.id)).of(EXECUTE) if it.result.action_url)
        assert sent.result.status == "requires_action"
        await here.until(payment.id, "requires_review")
        await here.decide(payment.id, "approve")
        await here.until(payment.id, "canceled")
        await here.handle(payment.id).result()


async def is_decided_and_fails_before_either_is_told(here: World) -> None:
    """Two local steps of one workflow task: the first, taken again, tells of the second's event too."""
    payment = await here.pay(amount=Money(600_000, "EUR"))

    async def no_rate_is_to_be_had() -> None:
        await here.database.write(find_no_rate, payment.id)

    with pytest.MonkeyPatch.context() as patch:
        kill_after(here, patch, "_decide", no_rate_is_to_be_had)
        await here.decide(payment.id, "approve")
        await here.until(payment.id, "failed")


SCENARIOS = (
    pays_and_settles,
    captures_and_refunds,
    is_challenged_and_canceled,
    is_declined,
    is_reviewed_and_voided,
    times_out_after_the_effect,
    refunds_by_a_clock_that_is_behind,
    answers_again_when_it_has_been_refunded,
    begins_anew_after_it_was_captured,
    settles_unheard_and_begins_anew,
    is_asked_about_again,
    loses_its_answer_and_begins_anew,
    renews_its_lock_and_is_reset,
    is_stuck_and_is_reset,
    is_decided_and_fails_before_either_is_told,
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda it: it.__name__)
async def test_from_every_moment_the_database_is_brought_up_row_for_row(
    here: World, tmp_path: Path, scenario: Callable[[World], Awaitable[None]]
) -> None:
    await from_every_moment(here, tmp_path, scenario)


async def test_what_a_killed_worker_did_and_no_step_made_is_left_to_a_person(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a repeated step tells that the payment was settled, and nothing tells what was booked."""
    begun = now().isoformat()
    with copying(here, tmp_path) as copies:
        await settles_unheard_and_begins_anew(here)
    ended, left = await here.database.read(rows), 0
    read_as(monkeypatch, _without_settlement)
    for url in copies.urls:
        async with on(here, url) as edge:
            repaired = await check(here, edge, begun, is_repair=True)
            is_whole = (await edge.database.read(rows))["payments"] == ended["payments"]
            assert is_whole != bool(repaired.left), url
            left += len(repaired.left)
    assert left


async def test_a_repeated_request_finds_its_first_payment_after_the_repair(
    here: World, tmp_path: Path
) -> None:
    begun = now().isoformat()
    before = copy_of(here.database.url, tmp_path / "before.db")
    payment = await asked_for(here)
    first = await here.database.read(_repeat, here.merchant_id)
    async with on(here, before) as edge:
        await check(here, edge, begun, is_repair=True)
        again = await edge.database.read(_repeat, here.merchant_id)
    assert isinstance(again, Replay)
    assert again == first
    assert payment.id in again.body


async def test_a_request_that_was_accepted_again_after_the_restore_needs_a_person(
    here: World, tmp_path: Path
) -> None:
    begun = now().isoformat()
    before = copy_of(here.database.url, tmp_path / "before.db")
    first = await asked_for(here)
    async with on(here, before) as edge:
        second = here.order(asked=ASKED)
        await edge.database.write(_accept, second)
        found = await check(here, edge, begun, is_repair=True)
        assert [(gap.kind, gap.object_id) for gap in found.left] == [(GapKind.KEY_TAKEN, first.id)]
        assert second.id in found.left[0].found
        assert (await edge.database.read(payments.load, first.id)).status == "captured"


async def test_without_its_merchant_nothing_is_made_and_nothing_is_stopped(
    here: World, tmp_path: Path
) -> None:
    begun = now().isoformat()
    payment = await here.pay()
    async with on(here, await empty(tmp_path / "empty.db")) as edge:
        found = await check(here, edge, begun, is_repair=True)
        assert [(gap.kind, gap.object_id) for gap in found.left] == [(GapKind.MERCHANT, payment.id)]
        assert found.stopped == []
        assert await edge.database.read(payments.find, payment.id) is None


async def test_a_database_that_tells_another_story_is_not_written_over_and_its_workflow_is_stopped(
    here: World, tmp_path: Path
) -> None:
    begun = now().isoformat()
    payment = await here.authorize()
    other = copy_of(here.database.url, tmp_path / "other.db")
    await here.capture(payment.id)
    async with on(here, other) as edge:
        await edge.database.write(_end_it_otherwise, payment.id)
        found = await check(here, edge, begun, is_repair=True)
        assert [gap.kind for gap in found.left] == [GapKind.DIVERGED], list(map(str, found.gaps))
        assert found.stopped == [f"payment-{payment.id}"]
        assert (await edge.database.read(payments.load, payment.id)).status == "canceled"
        assert (await edge.database.read(proof.verify)).postings == 0


async def test_what_an_older_build_did_not_tell_is_listed_and_not_guessed(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = now().isoformat()
    before = copy_of(here.database.url, tmp_path / "before.db")
    payment = await here.pay()
    read_as(monkeypatch, lambda told: replace(told, steps=tuple(map(_without_answer, told.steps))))
    async with on(here, before) as edge:
        found = await check(here, edge, begun, is_repair=False)
        assert [gap.kind for gap in found.left] == [GapKind.DIVERGED]
        assert f"{payment.id}:sale:1: what the provider answered" in found.left[0].found


async def test_a_batch_whose_import_was_under_way_is_known_again(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = now().isoformat()
    await here.pay()
    before = copy_of(here.database.url, tmp_path / "before.db")
    await here.settle()
    read_as(
        monkeypatch,
        lambda told: (
            replace(told, steps=told.steps[:1], ending="running")
            if told.workflow_type == names.SETTLEMENT
            else told
        ),
    )
    async with on(here, before) as edge:
        found = await check(here, edge, begun, is_repair=True)
        assert GapKind.BATCH in [gap.kind for gap in found.gaps]
        assert found.stopped == []
        known = await edge.database.read(_batches)
        assert known
        assert {state for _, state in known} == {"importing"}


async def test_places_in_the_feed_are_never_given_twice(here: World, tmp_path: Path) -> None:
    begun = now().isoformat()
    await here.pay()
    await here.dispatch()
    before = copy_of(here.database.url, tmp_path / "before.db")
    await here.pay()
    await here.dispatch()
    ours = await here.database.read(places)
    async with on(here, before) as edge:
        known = await edge.database.read(places)
        await check(here, edge, begun, is_repair=True)
        while await edge.database.write(events.assign_positions, 100):
            continue
        theirs = await edge.database.read(places)
    assert theirs.keys() == ours.keys(), "the same events, by the same ids"
    assert {event: theirs[event] for event in known} == known
    assert min(theirs[event] for event in theirs.keys() - known.keys()) > max(ours.values())


async def test_places_are_not_given_twice_where_the_oldest_lost_payment_cannot_be_made_again(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events are counted although its refund's steps tell of an earlier one than its own: no place is to spare."""
    monkeypatch.setattr(restore, "SPARE_PLACES", 0)
    begun = now().isoformat()
    await here.pay("pm_card_chargeDeclined")
    await here.dispatch()
    before = copy_of(here.database.url, tmp_path / "before.db")
    other = merchants_of.NewMerchant(id="mer_unknown", name="Made since", country="CN", settle_currency="CNY")
    await here.database.write(merchants_of.create_merchant, other, now())
    of_other = await here.pay(merchant_id=other.id)
    await here.refund(of_other.id, 2_000)
    await here.pay()
    await here.settle()
    await here.until(of_other.id, "settled")
    await here.handle(of_other.id).result()
    await here.dispatch()
    ours = await here.database.read(places)
    async with on(here, before) as edge:
        known = await edge.database.read(places)
        found = await check(here, edge, begun, is_repair=True)
        assert GapKind.MERCHANT in [gap.kind for gap in found.left]
        while await edge.database.write(events.assign_positions, 100):
            continue
        theirs = await edge.database.read(places)
    made = theirs.keys() - known.keys()
    assert made
    assert min(theirs[event] for event in made) > max(ours.values())


async def test_what_others_did_at_the_provider_is_listed_and_not_touched(here: World) -> None:
    begun = now().isoformat()
    answer = await here.control.post(
        "/stripe/v1/payment_intents",
        data={"amount": "700", "currency": "eur", "payment_method": "pm_card_visa", "confirm": "true"},
        headers={"authorization": "Bearer sk_test_corridor_sandbox"},
    )
    here.strangers += [("authorise", 700, "EUR"), ("capture", 700, "EUR")]
    found = await check(here, here.wired.edge, begun, is_repair=True)
    assert [(gap.kind, gap.object_id) for gap in found.gaps] == [(GapKind.STRANGER, answer.json()["id"])]


async def test_a_database_of_the_other_kind_is_made_again_from_nothing_but_its_merchant(
    here: World, postgres_database: str
) -> None:
    begun = now().isoformat()
    await captures_and_refunds(here)
    merchant = await here.database.read(_merchant)
    async with on(here, postgres_database) as edge:
        await edge.database.write(_write_merchant, merchant)
        found = await check(here, edge, begun, is_repair=True)
        assert found.left == [], "; ".join(map(str, found.left))
        again, wanted = await edge.database.read(rows), await here.database.read(rows)
        assert again["payments"] == wanted["payments"]
        assert again["legs"] == wanted["legs"]
        assert again["balances"] == wanted["balances"]
        assert again["events"] == wanted["events"]
        assert (await check(here, edge, begun, is_repair=False)).gaps == []


def _repeat(connection: Connection, merchant_id: str) -> Claim | Replay:
    """The merchant's first request, sent once more."""
    key, fingerprint = ASKED.idempotency_key, ASKED.fingerprint
    return idempotency.claim(connection, merchant_id, key, fingerprint, "pay_new", now())


def _batches(connection: Connection) -> list[tuple[str, str]]:
    found = connection.execute(select(settlement_batches.c.batch_id, settlement_batches.c.state))
    return [(row.batch_id, row.state) for row in found]


def _without_settlement(told: reading.Reading) -> reading.Reading:
    return replace(told, steps=tuple(it for it in told.steps if it.name != SETTLE.name))


def _without_answer(step: reading.StepTaken) -> reading.StepTaken:
    if not isinstance(step.result, Executed):
        return step
    return replace(step, result=step.result.model_copy(update={"answer": None, "stands": ()}))


def _end_it_otherwise(connection: Connection, payment_id: str) -> None:
    row = payments.lock(connection, payment_id)
    payments.move(connection, row, "payment.canceled", now(), to=Status.CANCELED)


def places(connection: Connection) -> dict[str, int]:
    """The place of every event in the feed."""
    found = connection.execute(select(event_positions.c.event_id, event_positions.c.position))
    return {row.event_id: row.position for row in found}


def _merchant(connection: Connection) -> dict[str, Any]:
    return dict(connection.execute(select(merchants)).mappings().one())


def _write_merchant(connection: Connection, values: dict[str, Any]) -> None:
    connection.execute(insert(merchants).values(**values))
