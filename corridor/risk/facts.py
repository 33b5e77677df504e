"""The facts of a risk decision, read from the database inside the transaction that records the decision.

Velocity under racing payments. A payment's row is committed when it is accepted, before it is judged, so the rows
counted for it are: itself, every row created before it, and every later row that was already let through. Without
the last kind, a row that was created first but judged last would not see what passed meanwhile. Payments
of one instrument or payer are judged one after another (a transaction-scoped advisory lock on PostgreSQL, the
single writer on SQLite), so the limit is exact for them. Payments of one merchant are not serialised: its limits
are brakes, and may be passed by the few payments that are being judged at the same instant.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Integer,
    Label,
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


_TAKE_TURN = text("SELECT pg_advisory_xact_lock(:number)")


def gather(connection: Connection, payment: Row[Any], policy: Policy, valuation: Valuation) -> Facts:
    """Facts of one accepted payment, for `decide`. Windows end at the payment's own creation, not at the clock.

    Runs in the write transaction of the decision (see above); `payment` is its row.
    """
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
        connection.execute(_TAKE_TURN, {"number": number})


def _lock_number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _observe(
    connection: Connection, payment: Row[Any], rules: tuple[VelocityRule, ...], valuation: Valuation
) -> Iterator[Velocity]:
    asked = [rule for rule in rules if rule.scope is not Scope.PAYER or payment.payer_reference is not None]
    known = {
        "instrument": payment.instrument,
        "merchant_id": payment.merchant_id,
        "payer_reference": payment.payer_reference,
        "own_id": payment.id,
        "own": payment.created_at,
    }
    counts = _counts(connection, asked, known)
    for rule in asked:
        amount, unvalued = _amount(connection, rule, known, valuation) if rule.limits_amount else (None, ())
        yield Velocity(rule.id, counts.get(rule.id, 0), amount, unvalued)


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


def _window(scope: Scope, since: str) -> ColumnElement[bool]:
    """`since` is the name of the parameter that says when the window begins."""
    created = payments.c.created_at
    own: BindParameter[datetime] = bindparam("own")
    up_to_itself = or_(created < own, and_(created == own, payments.c.id <= bindparam("own_id")))
    let_through = exists().where(
        risk_decisions.c.payment_id == payments.c.id, risk_decisions.c.decision != Verdict.DECLINE
    )
    return and_(_whose(scope), created > bindparam(since), or_(up_to_itself, let_through))


@cache
def _counting(scopes: tuple[Scope, ...]) -> Select[Any]:
    """The counts of all rules in one statement. Built once for each order of scopes, as is `_summing`: building
    these for every payment took longer than running them."""
    counts: list[Any] = [_counted(number, scope) for number, scope in enumerate(scopes)]
    return select(*counts)


def _counted(number: int, scope: Scope) -> Label[int]:
    enough: BindParameter[int] = bindparam(f"enough_{number}", type_=Integer)
    counted = select(payments.c.id).where(_window(scope, f"since_{number}")).limit(enough).subquery()
    return select(func.count()).select_from(counted).scalar_subquery().label(f"count_{number}")


@cache
def _summing(scope: Scope) -> Select[str, int]:
    moved = payments.c.status.not_in(_NO_MONEY_MOVED)
    total = func.sum(payments.c.amount_minor)
    return (
        select(payments.c.currency, total).where(_window(scope, "since"), moved).group_by(payments.c.currency)
    )


def _since(rule: VelocityRule, known: Mapping[str, Any]) -> datetime:
    began: datetime = known["own"] - timedelta(seconds=rule.window_seconds)
    return began


def _counts(
    connection: Connection, rules: Iterable[VelocityRule], known: Mapping[str, Any]
) -> dict[str, int]:
    """By rule; each stops one past its highest limit: a busy merchant's count costs no more than its limit."""
    counting = [rule for rule in rules if rule.highest_count]
    if not counting:
        return {}
    windows: dict[str, Any] = {}
    for number, rule in enumerate(counting):
        windows |= {f"since_{number}": _since(rule, known), f"enough_{number}": rule.highest_count + 1}
    found = connection.execute(_counting(tuple(rule.scope for rule in counting)), {**known, **windows}).one()
    return {rule.id: count for rule, count in zip(counting, found, strict=True)}


def _amount(
    connection: Connection, rule: VelocityRule, known: Mapping[str, Any], valuation: Valuation
) -> tuple[Money, tuple[str, ...]]:
    """Summed per currency by the database, valued once per currency; (total, currencies without a value)."""
    sums = connection.execute(_summing(rule.scope), {**known, "since": _since(rule, known)})
    values = {row[0]: valuation.value(Money(int(row[1]), row[0])) for row in sums}
    total = sum((value.minor for value in values.values() if value is not None), 0)
    return Money(total, EURO), tuple(sorted(code for code, value in values.items() if value is None))
