"""The reading side of the provider inbox: which stored webhooks still matter, and to whom.

Taking an event also sets when it is due again, so a relay that dies before it signals only delays it; two relays
never take the same event at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select, update

from corridor.domain.effect import COLLECTING, EffectState, Operation
from corridor.domain.payment import RefundStatus, Status
from corridor.storage.inbox import InboxState
from corridor.storage.tables import effects, payments, provider_events, refunds

GRACE = timedelta(milliseconds=1500)
"""The synchronous answer normally comes first; waiting for it keeps signals out of the happy path's history."""
FIRST_RETRY = timedelta(seconds=10)
LAST_RETRY = timedelta(hours=6)
KEPT = timedelta(days=3)
"""How long an event nobody can place is tried again; Stripe itself delivers for three days."""

_FINAL = [state for state in EffectState if state.is_final]
_WAITING = (Status.PROCESSING, Status.REQUIRES_ACTION, Status.REQUIRES_REVIEW)


@dataclass(frozen=True)
class Hint:
    """Tell the workflow of `object_id` (a payment or a refund) to look; `effect_key` if the event named one."""

    object_id: str
    effect_key: str | None


@dataclass(frozen=True)
class Taken:
    """A due event and what is to be done: `hints` to signal, or a state that was already written."""

    id: str
    provider: str
    provider_event_id: str
    state: InboxState
    hints: tuple[Hint, ...] = ()
    effect_key: str | None = None


def is_due(connection: Connection, now: datetime) -> bool:
    """A cheap look before the write transaction."""
    return connection.execute(select(provider_events.c.id).where(*_due(now)).limit(1)).first() is not None


def take_due(connection: Connection, now: datetime, limit: int) -> list[Taken]:
    """Take due events: settle those the database answers, return with `hints` those somebody waits for."""
    rows = connection.execute(
        select(provider_events)
        .where(*_due(now))
        .order_by(provider_events.c.due_at, provider_events.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    return [_take(connection, row, now) for row in rows]


def mark_routed(connection: Connection, event_ids: Sequence[str]) -> None:
    """The workflows know; the events are done."""
    connection.execute(
        update(provider_events)
        .where(provider_events.c.id.in_(event_ids), provider_events.c.state == InboxState.STORED)
        .values(state=InboxState.ROUTED)
    )


def _due(now: datetime) -> tuple[Any, ...]:
    table = provider_events.c
    return (table.state == InboxState.STORED, table.due_at <= now, table.received_at <= now - GRACE)


def _take(connection: Connection, row: Any, now: datetime) -> Taken:
    effect = _effect(connection, row)
    hints = _hints(connection, row, effect)
    if effect is not None and row.shows_money and _had_concluded_otherwise(connection, effect):
        state, hints = InboxState.CONTRADICTED, ()
    elif hints == ():
        state = InboxState.CONFIRMED
    elif row.tries > 0 and row.received_at <= now - KEPT:
        state, hints = InboxState.UNMATCHED, ()
    else:
        state = InboxState.STORED
    connection.execute(
        update(provider_events)
        .where(provider_events.c.id == row.id)
        .values(state=state, tries=row.tries + 1, due_at=now + _pause(row.tries))
    )
    return Taken(row.id, row.provider, row.provider_event_id, state, hints or (), row.effect_key)


def _pause(tries: int) -> timedelta:
    return min(LAST_RETRY, FIRST_RETRY * (1 << min(tries, 12)))


def _had_concluded_otherwise(connection: Connection, effect: Any) -> bool:
    """The effect is on record as never made, so money shown for it is money that our books do not have.

    An attempt that was declined or called off counts too, unless a void of ours is what ended it: then news of before the
    void are just late. So may news of a refund be that was declined in the end. A void moves no money towards us.
    """
    if effect.state == EffectState.NOT_SENT:
        return bool(effect.operation != Operation.VOID)
    is_declined = effect.state == EffectState.DECLINED and effect.operation in COLLECTING
    if not is_declined and not _is_called_off(connection, effect):
        return False
    return not _was_voided(connection, effect.payment_id)


def _is_called_off(connection: Connection, effect: Any) -> bool:
    """An attempt without an answer whose payment has ended: nobody waits for the answer any more."""
    if effect.state in _FINAL or effect.operation not in COLLECTING:
        return False
    return _status(connection, effect.payment_id).is_terminal


def _status(connection: Connection, payment_id: str) -> Status:
    query = select(payments.c.status).where(payments.c.id == payment_id)
    return Status(connection.execute(query).scalar_one())


def _was_voided(connection: Connection, payment_id: str) -> bool:
    query = select(effects.c.key).where(
        effects.c.payment_id == payment_id,
        effects.c.operation == Operation.VOID,
        effects.c.state == EffectState.APPROVED,
    )
    return connection.execute(query.limit(1)).first() is not None


def _hints(connection: Connection, row: Any, effect: Any) -> tuple[Hint, ...] | None:
    """Who still waits for this news. Empty: the outcome is proven already. None: we know nothing of the object."""
    is_open = effect is not None and effect.state not in _FINAL and not _is_called_off(connection, effect)
    if effect is not None and (is_open or _is_setback(connection, effect, row)):
        return (Hint(effect.object_id, effect.key),)
    payment_id = effect.payment_id if effect is not None else _payment_id(connection, row)
    if payment_id is None:
        return None
    return tuple(_open(connection, payment_id))


def _is_setback(connection: Connection, effect: Any, row: Any) -> bool:
    """A refund that succeeded may still come back, also before we hear that it succeeded.

    A repeat under the same key is answered from the provider's memory of the first answer, so our proof may be younger
    than the event that took it back: no comparison of times can tell.
    """
    if effect.operation != Operation.REFUND or effect.state != EffectState.APPROVED or not row.is_setback:
        return False
    of_it = select(refunds.c.status).where(refunds.c.id == effect.object_id)
    return connection.execute(of_it).scalar_one_or_none() == RefundStatus.SUCCEEDED


def _effect(connection: Connection, row: Any) -> Any:
    query = select(effects).where(effects.c.key == row.effect_key, effects.c.provider == row.provider)
    return connection.execute(query).one_or_none() if row.effect_key is not None else None


def _payment_id(connection: Connection, row: Any) -> str | None:
    """By our own id, else by the provider's reference of the payment."""
    if row.payment_id is not None:
        found = connection.execute(
            select(payments.c.id).where(payments.c.id == row.payment_id)
        ).scalar_one_or_none()
        if found is not None:
            return str(found)
    if row.provider_reference is None:
        return None
    query = select(payments.c.id).where(
        payments.c.provider_reference == row.provider_reference, payments.c.provider == row.provider
    )
    found = connection.execute(query).scalars().first()
    return str(found) if found is not None else None


def _open(connection: Connection, payment_id: str) -> Iterator[Hint]:
    """Everything of the payment that waits: its effects and its refunds' without an outcome, or the payment itself.

    An event may name the authorisation (its metadata is copied to later objects) and yet be news of the capture.
    """
    status = _status(connection, payment_id)
    query = select(effects.c.object_id, effects.c.key).where(
        effects.c.payment_id == payment_id, effects.c.state.not_in(_FINAL)
    )
    if status.is_terminal:  # an attempt that was called off waits for nothing
        query = query.where(effects.c.operation.not_in(COLLECTING))
    waiting = {
        row.object_id: Hint(row.object_id, row.key)
        for row in connection.execute(query.order_by(effects.c.key))
    }
    if status in _WAITING:
        waiting.setdefault(payment_id, Hint(payment_id, None))
    return iter(waiting.values())
