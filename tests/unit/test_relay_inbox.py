"""Provider webhooks reach whoever waits for them, once, and nobody else."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog
from sqlalchemy import Connection, select

from corridor.domain.effect import EffectState, Operation
from corridor.domain.ids import Prefix, new_id
from corridor.storage.database import Database
from corridor.storage.inbox import InboxState
from corridor.storage.inbox_routing import GRACE, KEPT
from corridor.storage.tables import provider_events
from tests.fakes.temporal import FakeTemporal
from tests.unit import relay_rows as rows
from workers.relay.inbox import InboxRouter
from workflows import names
from workflows.messages import ProviderHint


class Stand:
    """A router with its database, its server and a clock the test sets."""

    def __init__(self, database: Database) -> None:
        self.database, self.server, self.now = database, FakeTemporal(), rows.LATER
        self.router = InboxRouter(database, self.server, self.clock)  # type: ignore[arg-type]

    def clock(self) -> datetime:
        return self.now

    async def payment(self, state: EffectState | None) -> tuple[Any, str | None]:
        merchant_id = await self.database.write(rows.merchant)
        row = await self.database.write(rows.payment, merchant_id)
        key = await self.database.write(rows.effect, row, state) if state else None
        self.server.running[names.payment_workflow_id(row.id)] = (names.PAYMENT, None)
        return row, key

    async def state(self, event_id: str) -> str:
        def read(connection: Connection) -> str:
            query = select(provider_events.c.state).where(provider_events.c.id == event_id)
            return str(connection.execute(query).scalar_one())

        return await self.database.read(read)

    @property
    def told(self) -> list[tuple[str, str | None]]:
        assert all(name == names.PROVIDER_HINT for _, name, _ in self.server.signals)
        hints = [(workflow_id, argument) for workflow_id, _, argument in self.server.signals]
        assert all(isinstance(hint, ProviderHint) for _, hint in hints)
        return [(workflow_id, hint.effect_key) for workflow_id, hint in hints]


@pytest.fixture
def stand(database: Database) -> Stand:
    return Stand(database)


OPEN = [state for state in EffectState if not state.is_final]


@pytest.mark.parametrize("state", OPEN)
async def test_an_effect_without_proof_wakes_its_workflow(stand: Stand, state: EffectState) -> None:
    row, key = await stand.payment(state)
    event_id = await stand.database.write(rows.provider_event, effect_key=key)
    assert await stand.router.turn() == 1
    assert stand.told == [(names.payment_workflow_id(row.id), key)]
    assert await stand.state(event_id) == InboxState.ROUTED
    assert await stand.router.turn() == 0


async def test_a_proven_outcome_is_confirmed_without_a_signal(stand: Stand) -> None:
    row, key = await stand.payment(EffectState.APPROVED)
    await stand.database.write(rows.captured, row)
    event_id = await stand.database.write(rows.provider_event, effect_key=key)
    await stand.router.turn()
    assert (stand.told, await stand.state(event_id)) == ([], InboxState.CONFIRMED)


async def test_the_synchronous_answer_gets_a_head_start(stand: Stand) -> None:
    _, key = await stand.payment(EffectState.UNKNOWN)
    event_id = await stand.database.write(rows.provider_event, effect_key=key)
    stand.now = rows.NOW + GRACE - timedelta(milliseconds=1)
    assert await stand.router.turn() == 0
    stand.now = rows.NOW + GRACE
    assert await stand.router.turn() == 1
    assert await stand.state(event_id) == InboxState.ROUTED


async def test_a_refund_without_proof_wakes_the_refunds_workflow(stand: Stand) -> None:
    row, _ = await stand.payment(EffectState.APPROVED)
    refund_id = new_id(Prefix.REFUND, rows.NOW)
    key = await stand.database.write(rows.effect, row, EffectState.UNKNOWN, Operation.REFUND, refund_id)
    stand.server.running[names.refund_workflow_id(refund_id)] = (names.REFUND, None)
    await stand.database.write(rows.provider_event, effect_key=key)
    await stand.router.turn()
    assert stand.told == [(names.refund_workflow_id(refund_id), key)]


async def test_news_that_names_the_authorisation_reaches_the_capture_that_waits(stand: Stand) -> None:
    row, authorised = await stand.payment(None)
    await stand.database.write(rows.captured, row)
    authorised = await stand.database.write(rows.effect, row, EffectState.APPROVED, Operation.AUTHORISE)
    capture = await stand.database.write(rows.effect, row, EffectState.UNKNOWN, Operation.CAPTURE)
    await stand.database.write(rows.provider_event, effect_key=authorised, payment_id=row.id)
    await stand.router.turn()
    assert stand.told == [(names.payment_workflow_id(row.id), capture)]


async def test_a_payment_is_found_by_the_providers_reference(stand: Stand) -> None:
    row, key = await stand.payment(EffectState.PENDING)
    await stand.database.write(rows.captured, row)
    await stand.database.write(rows.provider_event, reference=f"pi_{row.id}")
    await stand.router.turn()
    assert stand.told == [(names.payment_workflow_id(row.id), key)]


async def test_an_unknown_id_is_kept_and_given_up_after_three_days(stand: Stand) -> None:
    event_id = await stand.database.write(
        rows.provider_event, payment_id="pay_unknown", reference="pi_unknown"
    )
    turns = 0
    while stand.now < rows.NOW + KEPT:
        turns += await stand.router.turn()
        assert await stand.state(event_id) == InboxState.STORED
        stand.now += timedelta(minutes=30)
    stand.now += timedelta(hours=7)
    assert await stand.router.turn() == 1
    assert await stand.state(event_id) == InboxState.UNMATCHED
    assert 12 < turns < 40, "tried with growing pauses, not at every turn"


async def test_an_unknown_id_that_becomes_known_is_routed(stand: Stand) -> None:
    row, _ = await stand.payment(None)
    key = f"{row.id}:sale:1"
    event_id = await stand.database.write(rows.provider_event, effect_key=key)
    await stand.router.turn()
    assert await stand.state(event_id) == InboxState.STORED
    await stand.database.write(rows.effect, row, EffectState.UNKNOWN)
    stand.now += timedelta(seconds=30)
    await stand.router.turn()
    assert (stand.told, await stand.state(event_id)) == (
        [(names.payment_workflow_id(row.id), key)],
        InboxState.ROUTED,
    )


async def test_a_workflow_that_is_not_there_yet_is_told_later(stand: Stand) -> None:
    row, key = await stand.payment(EffectState.UNKNOWN)
    stand.server.running.clear()
    event_id = await stand.database.write(rows.provider_event, effect_key=key)
    assert await stand.router.turn() == 1
    assert await stand.state(event_id) == InboxState.STORED
    stand.server.running[names.payment_workflow_id(row.id)] = (names.PAYMENT, None)
    stand.now += timedelta(seconds=30)
    await stand.router.turn()
    assert await stand.state(event_id) == InboxState.ROUTED


async def test_one_failing_signal_does_not_hold_up_the_others(stand: Stand) -> None:
    broken, first_key = await stand.payment(EffectState.UNKNOWN)
    _, second_key = await stand.payment(EffectState.UNKNOWN)
    first = await stand.database.write(rows.provider_event, effect_key=first_key)
    second = await stand.database.write(rows.provider_event, effect_key=second_key)
    stand.server.broken = {names.payment_workflow_id(broken.id)}
    with pytest.raises(ExceptionGroup):
        await stand.router.turn()
    assert (await stand.state(first), await stand.state(second)) == (InboxState.STORED, InboxState.ROUTED)


async def test_two_relays_never_take_the_same_event(stand: Stand) -> None:
    for _ in range(8):
        _, key = await stand.payment(EffectState.UNKNOWN)
        await stand.database.write(rows.provider_event, effect_key=key)
    await asyncio.gather(*(stand.router.turn() for _ in range(4)))
    assert len(stand.server.signals) == len(set(stand.told)) == 8


@pytest.mark.parametrize("noticed", [timedelta(seconds=-2), timedelta(days=3)], ids=["before", "days later"])
async def test_a_refund_that_came_back_wakes_its_workflow_whenever_the_proof_was_written(
    stand: Stand, noticed: timedelta
) -> None:
    """Our proof can be younger than the event: a repeat is answered from the provider's memory of the first answer."""
    row, _ = await stand.payment(EffectState.APPROVED)
    captured = await stand.database.write(rows.captured, row)
    refund_id = await stand.database.write(rows.refunded, captured)
    stand.server.running[names.refund_workflow_id(refund_id)] = (names.REFUND, None)
    key = await stand.database.write(rows.effect, row, EffectState.APPROVED, Operation.REFUND, refund_id)
    of_the_proof = await stand.database.write(rows.provider_event, effect_key=key)
    of_the_return = await stand.database.write(
        rows.provider_event, effect_key=key, received_at=rows.NOW + noticed, is_setback=True
    )
    stand.now = rows.NOW + max(noticed, timedelta()) + GRACE
    await stand.router.turn()
    assert stand.told == [(names.refund_workflow_id(refund_id), key)]
    assert await stand.state(of_the_proof) == InboxState.CONFIRMED
    assert await stand.state(of_the_return) == InboxState.ROUTED


@pytest.mark.parametrize(
    ("operation", "state"),
    [
        (Operation.SALE, EffectState.NOT_SENT),
        (Operation.CAPTURE, EffectState.NOT_SENT),
        (Operation.REFUND, EffectState.NOT_SENT),
        (Operation.SALE, EffectState.DECLINED),
    ],
)
async def test_money_of_what_was_never_made_is_not_known_already(
    stand: Stand, operation: Operation, state: EffectState
) -> None:
    row, _ = await stand.payment(None)
    await stand.database.write(rows.captured, row)
    key = await stand.database.write(rows.effect, row, state, operation)
    event_id = await stand.database.write(rows.provider_event, effect_key=key, shows_money=True)
    with structlog.testing.capture_logs() as lines:
        assert await stand.router.turn() == 1
    assert (stand.told, await stand.state(event_id)) == ([], InboxState.CONTRADICTED)
    assert [(line["log_level"], line["effect_key"]) for line in lines] == [("error", key)]
    assert await stand.router.turn() == 0


@pytest.mark.parametrize(
    ("operation", "state"),
    [
        (Operation.SALE, EffectState.APPROVED),
        (Operation.VOID, EffectState.NOT_SENT),
        (Operation.REFUND, EffectState.DECLINED),
    ],
)
async def test_money_that_our_books_have_or_that_came_back_contradicts_nothing(
    stand: Stand, operation: Operation, state: EffectState
) -> None:
    row, _ = await stand.payment(None)
    await stand.database.write(rows.captured, row)
    key = await stand.database.write(rows.effect, row, state, operation)
    event_id = await stand.database.write(rows.provider_event, effect_key=key, shows_money=True)
    await stand.router.turn()
    assert await stand.state(event_id) == InboxState.CONFIRMED


async def test_late_news_of_an_attempt_that_our_own_void_ended_contradict_nothing(stand: Stand) -> None:
    row, key = await stand.payment(EffectState.DECLINED)
    await stand.database.write(rows.captured, row)
    await stand.database.write(rows.effect, row, EffectState.APPROVED, Operation.VOID)
    event_id = await stand.database.write(rows.provider_event, effect_key=key, shows_money=True)
    await stand.router.turn()
    assert await stand.state(event_id) == InboxState.CONFIRMED


async def test_an_attempt_whose_payment_was_called_off_waits_for_nothing(stand: Stand) -> None:
    """Its void is what was waited for; the attempt itself gets no answer any more, and its workflow is gone."""
    row, key = await stand.payment(EffectState.ACTION_REQUIRED)
    await stand.database.write(rows.canceled, row)
    void = await stand.database.write(rows.effect, row, EffectState.APPROVED, Operation.VOID)
    stand.server.running.clear()
    named = [
        await stand.database.write(rows.provider_event, effect_key=void),
        await stand.database.write(rows.provider_event, effect_key=key, shows_money=True),
        await stand.database.write(rows.provider_event, payment_id=row.id),
    ]
    await stand.router.turn()
    assert [await stand.state(event_id) for event_id in named] == [InboxState.CONFIRMED] * 3


async def test_a_void_without_proof_is_told_of_news_though_its_payment_has_ended(stand: Stand) -> None:
    row, _ = await stand.payment(None)
    await stand.database.write(rows.canceled, row)
    void = await stand.database.write(rows.effect, row, EffectState.UNKNOWN, Operation.VOID)
    await stand.database.write(rows.provider_event, payment_id=row.id)
    await stand.router.turn()
    assert stand.told == [(names.payment_workflow_id(row.id), void)]


async def test_money_of_an_attempt_that_was_called_off_without_a_void_contradicts_our_books(
    stand: Stand,
) -> None:
    row, key = await stand.payment(EffectState.ACTION_REQUIRED)
    await stand.database.write(rows.canceled, row)
    event_id = await stand.database.write(rows.provider_event, effect_key=key, shows_money=True)
    await stand.router.turn()
    assert (stand.told, await stand.state(event_id)) == ([], InboxState.CONTRADICTED)
