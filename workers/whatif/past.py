"""The recorded past of a what-if: payments with the decision, quotes and money that were, read page by page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, tuple_

from corridor.domain.money import Money, zero
from corridor.domain.payment import RefundStatus, Status, StatusReason
from corridor.domain.quote import Quote
from corridor.ledger import rules
from corridor.risk.decide import Verdict
from corridor.risk.recorded import Recorded
from corridor.storage.tables import (
    effects,
    events,
    merchants,
    payments,
    quotes,
    refunds,
    reviews,
    risk_decisions,
)

PAGE = 500
_COLLECTED = (Status.CAPTURED, Status.SETTLED)


@dataclass(frozen=True)
class Past:
    """One payment as it was decided. `quotes` in the order the payment held them."""

    payment: Row[Any]
    fee_bps: int
    recorded: Recorded
    decided_at: datetime
    reviewer: str | None
    """What became of its risk review: approve, decline, withdrawn, open; None without one."""
    quotes: tuple[Quote, ...]
    agreed: tuple[int, ...]
    """For each quote after the first: which one's rate it was held to."""
    effects: tuple[Row[Any], ...]
    given_back_minor: tuple[int, int]
    """Refunds made out of settled money: what the buyer got, and what the merchant gave up for it."""

    @property
    def renewals(self) -> tuple[tuple[int, int], ...]:
        """(held to, renewed as), as places in `quotes`."""
        return tuple((first, number) for number, first in enumerate(self.agreed, start=1))

    @property
    def remaining(self) -> Money | None:
        """The buyer's money the merchant is (or will be) settled for; None where nothing was collected."""
        row = self.payment
        if Status(row.status) not in _COLLECTED:
            return None
        if row.settled_charged_minor is not None:
            return Money(row.settled_charged_minor, row.currency)
        taken = row.amount_refunded_minor + row.amount_refund_reserved_minor
        return Money(row.amount_captured_minor - taken, row.currency)

    @property
    def kept(self) -> Money | None:
        """`remaining` less what went back to the buyer after it was settled."""
        return (
            None
            if self.remaining is None
            else self.remaining - Money(self.given_back_minor[0], self.payment.currency)
        )

    def given_up(self, share: rules.MerchantShare) -> Money:
        """The merchant's side of those later refunds, at the rate of this share."""
        returned, settled_in = (
            Money(self.given_back_minor[0], self.payment.currency),
            share.converted.currency,
        )
        if returned.is_zero or self.remaining is None:
            return zero(settled_in)
        return rules.refund_share(
            self.remaining, share.converted, zero(returned.currency), zero(settled_in), returned
        )

    def share(self, quote: Quote | None) -> rules.MerchantShare | None:
        """What `remaining` comes to at this quote."""
        return None if self.remaining is None else rules.merchant_share(self.remaining, quote, self.fee_bps)

    @property
    def money_is_known(self) -> bool:
        """The merchant's fee of today, and the rate at hand, give what was booked: settlement and later refunds."""
        share, booked = self.share(self.quotes[-1] if self.quotes else None), self.payment.settled_minor
        if share is None or booked is None:
            return True
        return (share.net.minor, self.given_up(share).minor) == (booked, self.given_back_minor[1])


@dataclass(frozen=True)
class Page:
    pasts: tuple[Past, ...]
    after: tuple[datetime, int] | None
    """Where the next page begins; None: this was the last."""


def page(
    connection: Connection, since: datetime, until: datetime, after: tuple[datetime, int] | None
) -> Page:
    """Payments created in [since, until), in the order they were judged: each saw what was decided before it."""
    place = (risk_decisions.c.decided_at, risk_decisions.c.id)
    query = (
        select(payments, risk_decisions.c.id.label("decision_id"), merchants.c.fee_bps)
        .join(risk_decisions, risk_decisions.c.payment_id == payments.c.id)
        .join(merchants, merchants.c.id == payments.c.merchant_id)
        .where(payments.c.created_at >= since, payments.c.created_at < until)
        .order_by(*place)
        .limit(PAGE)
    )
    if after is not None:
        query = query.where(tuple_(*place) > after)
    rows = connection.execute(query).all()
    ids = [row.id for row in rows]
    decisions = {
        row.payment_id: row for row in _of(connection, risk_decisions, risk_decisions.c.payment_id, ids)
    }
    held = _held(connection, ids)
    named = [quote_id for quotes_held in held.values() for quote_id in quotes_held]
    bodies = {row.id: Quote.model_validate(row.body) for row in _of(connection, quotes, quotes.c.id, named)}
    risk_reviews = _reviews(connection, ids)
    given_back = _given_back(connection, ids)
    sent = _grouped(_of(connection, effects, effects.c.payment_id, ids))
    pasts = tuple(
        Past(
            payment=row,
            fee_bps=row.fee_bps,
            recorded=_recorded(decisions[row.id]),
            decided_at=decisions[row.id].decided_at,
            reviewer=risk_reviews.get(row.id),
            quotes=tuple(bodies[it] for it in held.get(row.id, {})),
            agreed=tuple(_agreed(list(held.get(row.id, {}).values()))),
            effects=tuple(sent.get(row.id, ())),
            given_back_minor=given_back.get(row.id, (0, 0)),
        )
        for row in rows
    )
    last = (pasts[-1].decided_at, rows[-1].decision_id) if len(rows) == PAGE else None
    return Page(pasts, last)


def undecided(connection: Connection, since: datetime, until: datetime) -> list[str]:
    """Payments of the time that have no decision yet, or never got one."""
    judged = select(risk_decisions.c.payment_id)
    query = select(payments.c.id).where(
        payments.c.created_at >= since, payments.c.created_at < until, payments.c.id.not_in(judged)
    )
    return list(connection.execute(query).scalars())


def _of(connection: Connection, table: Any, column: Any, ids: Sequence[str]) -> Sequence[Row[Any]]:
    return connection.execute(select(table).where(column.in_(ids))).all()


def _grouped(rows: Sequence[Row[Any]]) -> dict[str, list[Row[Any]]]:
    grouped: dict[str, list[Row[Any]]] = {}
    for row in rows:
        grouped.setdefault(row.payment_id, []).append(row)
    return grouped


def _recorded(row: Row[Any]) -> Recorded:
    return Recorded(Verdict(row.decision), row.policy_version, row.reasons, row.inputs)


def _reviews(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    query = select(reviews).where(reviews.c.object_id.in_(ids), reviews.c.reason == StatusReason.RISK_REVIEW)
    return {row.object_id: row.decision or "open" for row in connection.execute(query)}


def _given_back(connection: Connection, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    query = (
        select(refunds.c.payment_id, func.sum(refunds.c.amount_minor), func.sum(refunds.c.reserved_minor))
        .where(refunds.c.payment_id.in_(ids), refunds.c.status != RefundStatus.FAILED)
        .where(refunds.c.reserved_from.like("merchant/%/available/%"))
        .group_by(refunds.c.payment_id)
    )
    return {row[0]: (int(row[1]), int(row[2])) for row in connection.execute(query)}


def _held(connection: Connection, ids: Sequence[str]) -> Mapping[str, dict[str, str]]:
    """Quote id → type of the event that first named it, by payment and in order: a renewed lock has left the row."""
    query = (
        select(events.c.object_id, events.c.type, events.c.data)
        .where(events.c.object_id.in_(ids))
        .order_by(events.c.object_id, events.c.sequence)
    )
    held: dict[str, dict[str, str]] = {}
    for object_id, event_type, data in connection.execute(query):
        if data["quote"] is not None:
            held.setdefault(object_id, {}).setdefault(data["quote"], event_type)
    return held


def _agreed(named_by: Sequence[str]) -> Iterator[int]:
    """An expired quote of the merchant's own is replaced by the payment's lock; renewals are held to that lock."""
    renewed = [number for number, event_type in enumerate(named_by) if event_type == "payment.requoted"]
    for number in range(1, len(named_by)):
        yield renewed[0] - 1 if number in renewed else number - 1
