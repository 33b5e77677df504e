"""Effects as rows: declared before the call with the exact bytes, resolved once, every look kept as evidence."""

from collections.abc import Collection
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from corridor.domain.effect import EffectState, FrozenRequest, Operation, effect_number
from corridor.domain.failure import Refusal, Refused, invariant
from corridor.domain.money import Money
from corridor.domain.outcome import Evidence, ProviderAnswer
from corridor.storage.clock import DatabaseNow
from corridor.storage.tables import effects, payments, quotes

EffectRow = Row[Any]

_BY_KEY = select(effects).where(effects.c.key == bindparam("wanted"))
"""Built once: building a statement anew and finding it in SQLAlchemy's cache takes longer than running it."""
_OF_PAYMENT = (
    select(effects)
    .where(effects.c.payment_id == bindparam("of_payment"))
    .order_by(effects.c.declared_at, effects.c.key)
)
_TO_SEND = (
    select(effects, payments.c.status.label("payment_status"), payments.c.quote_id)
    .add_columns(quotes.c.expires_at.label("lock_expires_at"), DatabaseNow().label("asked_at"))
    .join(payments, payments.c.id == effects.c.payment_id)
    .outerjoin(quotes, quotes.c.id == payments.c.quote_id)
    .where(effects.c.key == bindparam("wanted"))
)
_RECORD = update(effects).where(effects.c.key == bindparam("wanted")).returning(effects)


@cache
def _declare(dialect: str) -> Any:
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    return insert(effects).on_conflict_do_nothing(index_elements=["key"]).returning(effects)


def declare(
    connection: Connection,
    *,
    key: str,
    object_id: str,
    payment_id: str,
    operation: Operation,
    provider: str,
    amount: Money,
    request: FrozenRequest,
    provider_reference: str | None,
    by_run: str | None,
    now: datetime,
) -> EffectRow:
    """Declare the effect, or return the one already declared under this key: its bytes stay as they were."""
    row = {
        "key": key,
        "object_id": object_id,
        "payment_id": payment_id,
        "operation": operation,
        "provider": provider,
        "currency": amount.currency,
        "amount_minor": amount.minor,
        "request": request.model_dump(),
        "state": EffectState.DECLARED,
        "provider_reference": provider_reference,
        "looks": [],
        "declared_at": now,
        "declared_by_run": by_run,
    }
    declared: EffectRow | None = connection.execute(_declare(connection.dialect.name), row).one_or_none()
    return declared if declared is not None else get(connection, key)


def find(connection: Connection, key: str) -> EffectRow | None:
    return connection.execute(_BY_KEY, {"wanted": key}).one_or_none()


def get(connection: Connection, key: str) -> EffectRow:
    """Raises `Refused(NOT_FOUND)`."""
    row = find(connection, key)
    if row is None:
        raise Refused(Refusal.NOT_FOUND, f"no effect {key} was declared")
    return row


def to_send(connection: Connection, key: str) -> EffectRow:
    """The effect with what decides whether it may be sent now: `payment_status`, and the payment's FX lock as
    `quote_id` and `lock_expires_at` (None where there is none), with `asked_at`, the time by the database's clock.

    Raises `Refused(NOT_FOUND)`.
    """
    row = connection.execute(_TO_SEND, {"wanted": key}).one_or_none()
    if row is None:
        raise Refused(Refusal.NOT_FOUND, f"no effect {key} was declared")
    return row


def of_payment(connection: Connection, payment_id: str) -> list[EffectRow]:
    """Every effect of the payment and of its refunds, in the order they were declared."""
    return list(connection.execute(_OF_PAYMENT, {"of_payment": payment_id}).all())


def newest(
    connection: Connection, payment_id: str, object_id: str, operations: Collection[Operation]
) -> EffectRow | None:
    """Of these operations on the payment, or on a refund of it, the last that was declared; None where none was.

    By its number: a run that was reset counts from the first again, and must come upon what was sent under another key.
    """
    own = [
        it
        for it in of_payment(connection, payment_id)
        if it.object_id == object_id and it.operation in operations
    ]
    return max(own, key=lambda it: effect_number(it.key), default=None)


def record(connection: Connection, row: EffectRow, answer: ProviderAnswer, now: datetime) -> EffectRow | None:
    """Write what an answer says of the effect, and return it. None when it was final before: the first proof stays."""
    if EffectState(row.state).is_final:
        return None
    state = EffectState.of(answer.outcome)
    changed = {
        "wanted": row.key,
        "state": state,
        "answer": answer.model_dump(mode="json"),
        "provider_reference": answer.provider_reference or row.provider_reference,
        "resolved_at": now if state.is_final else None,
    }
    return connection.execute(_RECORD, changed).one()


def add_look(connection: Connection, key: str, evidence: Evidence) -> None:
    """Keep the evidence of a look-up that decided nothing."""
    row = get(connection, key)
    connection.execute(
        update(effects)
        .where(effects.c.key == key)
        .values(looks=[*row.looks, evidence.model_dump(mode="json")])
    )


def amount(row: EffectRow) -> Money:
    return Money(row.amount_minor, row.currency)


def request(row: EffectRow) -> FrozenRequest:
    return FrozenRequest.model_validate(row.request)


def answer(row: EffectRow) -> ProviderAnswer:
    """The recorded answer; only for effects that have one."""
    invariant(row.answer is not None, f"effect {row.key} has no answer yet")
    return ProviderAnswer.model_validate(row.answer)
