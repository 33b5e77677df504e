"""The facts of a risk decision, read from the database inside the transaction that records the decision.

Velocity under racing payments. A payment's row is committed when it is accepted, before it is judged, so the rows
counted for it are: itself, every row created before it, and every later row that was already let through. Without
the last kind, a row that was created first but judged last would not see what passed meanwhile. Payments
of one instrument or payer are judged one after another (a transaction-scoped advisory lock on PostgreSQL, the
single writer on SQLite), so the limit is exact for them. Payments of one merchant are not serialised: its limits
are brakes, and may be passed by the few payments that are being judged at the same instant.
"""

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Integer,
    Row,
    Select,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    text,
)

from corridor.domain.money import Money
from corridor.domain.payment import Status
from corridor.risk.decide import Facts, Velocity, Verdict
from corridor.risk.policy import EURO, Policy, Scope, VelocityRule
from corridor.risk.valuation import Valuation
from corridor.storage.tables import payments, risk_decisions

_NO_MONEY_MOVED = (Status.FAILED, Status.CANCELED, Status.EXPIRED)


def gather(connection: Connection, payment_id: str, policy: Policy, valuation: Valuation) -> Facts:
    """Facts of one accepted payment, for `decide`. Windows end at the payment's own creation, not at the clock.

    Runs in the write transaction of the decision (see above). The payment's row must exist.
    """
    payment = connection.execute(select(payments).where(payments.c.id == payment_id)).one()
    _take_turns(connection, payment)
    known = valuation.completed_by(policy.rules.amount)
    amount = Money(payment.amount_minor, payment.currency)
    return Facts(
        amount=amount,
        value=known.value(amount),
        valuation=known.named,
        source_country=payment.source_country,
        destination_country=payment.destination_country,
        corridor=payment.corridor,
        velocities=tuple(_observe(connection, payment, policy.rules.velocity, known)),
    )


def _take_turns(connection: Connection, payment: Row[Any]) -> None:
    """In sorted order, so that two payments sharing instrument and payer cannot wait for each other."""
    if connection.dialect.name != "postgresql":
        return
    shared = [f"risk:instrument:{payment.instrument}"]
    if payment.payer_reference is not None:
        shared.append(f"risk:payer:{payment.merchant_id}:{payment.payer_reference}")
    for number in sorted(map(_lock_number, shared)):
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})


def _lock_number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _observe(
    connection: Connection, payment: Row[Any], rules: tuple[VelocityRule, ...], valuation: Valuation
) -> Iterator[Velocity]:
    for rule in rules:
        if rule.scope is Scope.PAYER and payment.payer_reference is None:
            continue
        known = _known(rule, payment)
        count = _count(connection, rule, known) if rule.highest_count else 0
        amount, unvalued = _amount(connection, rule, known, valuation) if rule.limits_amount else (None, ())
        yield Velocity(rule.id, count, amount, unvalued)


def _known(rule: VelocityRule, payment: Row[Any]) -> dict[str, Any]:
    """What the statements below are run with."""
    return {
        "instrument": payment.instrument,
        "merchant_id": payment.merchant_id,
        "payer_reference": payment.payer_reference,
        "own_id": payment.id,
        "own": payment.created_at,
        "since": payment.created_at - timedelta(seconds=rule.window_seconds),
        "enough": rule.highest_count + 1,
    }


def _whose(scope: Scope) -> ColumnElement[bool]:
    """Each of the three has an index that ends in `created_at`."""
    of_merchant = payments.c.merchant_id == bindparam("merchant_id")
    match scope:
        case Scope.INSTRUMENT:
            return and_(payments.c.instrument == bindparam("instrument"))
        case Scope.MERCHANT:
            return and_(of_merchant)
        case Scope.PAYER:
            return and_(of_merchant, payments.c.payer_reference == bindparam("payer_reference"))


def _window(scope: Scope) -> ColumnElement[bool]:
    created = payments.c.created_at
    own: BindParameter[datetime] = bindparam("own")
    up_to_itself = or_(created < own, and_(created == own, payments.c.id <= bindparam("own_id")))
    let_through = exists().where(
        risk_decisions.c.payment_id == payments.c.id, risk_decisions.c.decision != Verdict.DECLINE
    )
    return and_(_whose(scope), created > bindparam("since"), or_(up_to_itself, let_through))


@cache
def _counting(scope: Scope) -> Select[int]:
    """Built once a scope, as is `_summing`: building these for every payment took longer than running them."""
    counted = select(payments.c.id).where(_window(scope)).limit(bindparam("enough", type_=Integer)).subquery()
    return select(func.count()).select_from(counted)


@cache
def _summing(scope: Scope) -> Select[str, int]:
    moved = payments.c.status.not_in(_NO_MONEY_MOVED)
    total = func.sum(payments.c.amount_minor)
    return select(payments.c.currency, total).where(_window(scope), moved).group_by(payments.c.currency)


def _count(connection: Connection, rule: VelocityRule, known: dict[str, Any]) -> int:
    """Stops one past the highest limit: a busy merchant's count costs no more than its limit."""
    return connection.execute(_counting(rule.scope), known).scalar_one()


def _amount(
    connection: Connection, rule: VelocityRule, known: dict[str, Any], valuation: Valuation
) -> tuple[Money, tuple[str, ...]]:
    """Summed per currency by the database, valued once per currency; (total, currencies without a value)."""
    sums = connection.execute(_summing(rule.scope), known)
    values = {row[0]: valuation.value(Money(int(row[1]), row[0])) for row in sums}
    total = sum((value.minor for value in values.values() if value is not None), 0)
    return Money(total, EURO), tuple(sorted(code for code, value in values.items() if value is None))
