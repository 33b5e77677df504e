"""What the platform database knows of one payment, row by row, as happenings of its timeline.

Only what operators may see is taken: no payment token, instrument or payer, no bytes of requests and webhooks, no
address a buyer was sent to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Table, or_, select

from corridor.domain.money import Money
from corridor.domain.outcome import Evidence, ProviderAnswer
from corridor.domain.posting import Posting
from corridor.domain.quote import Quote
from corridor.ledger import store
from corridor.storage import effects, payments
from corridor.storage.ledger_tables import postings
from corridor.storage.records import Json, time_view
from corridor.storage.tables import effects as effect_table
from corridor.storage.tables import (
    events,
    provider_events,
    quotes,
    refunds,
    reviews,
    risk_decisions,
    settlement_lines,
    webhook_deliveries,
)
from workers.timeline.story import Happening, Kind

_HIDDEN = ("metadata", "merchant_reference")
"""The merchant's own words may name a buyer; a timeline is copied into tickets and reports."""


@dataclass(frozen=True)
class Posted:
    """A posting of the payment or of one of its refunds; `id` is its place in the ledger's one order."""

    id: int
    at: datetime
    posting: Posting


@dataclass(frozen=True)
class Rows:
    """One consistent snapshot of everything about a payment."""

    payment: Row[Any]
    events: tuple[Row[Any], ...]
    effects: tuple[Row[Any], ...]
    refund_ids: tuple[str, ...]
    quotes: tuple[Row[Any], ...]
    risk: tuple[Row[Any], ...]
    reviews: tuple[Row[Any], ...]
    postings: tuple[Posted, ...]
    settlement_lines: tuple[Row[Any], ...]
    provider_webhooks: tuple[Row[Any], ...]
    deliveries: tuple[Row[Any], ...]


def read(connection: Connection, payment_id: str) -> Rows | None:
    """Everything recorded of the payment, or None if there is no such payment."""
    payment = payments.find(connection, payment_id)
    if payment is None:
        return None
    refund_ids = tuple(
        connection.execute(select(refunds.c.id).where(refunds.c.payment_id == payment_id)).scalars()
    )
    objects = (payment_id, *refund_ids)
    of_events = _all(connection, events, events.c.object_id.in_(objects))
    quote_ids = {row.data.get("quote") for row in of_events} | {
        row.previous.get("quote") for row in of_events
    }
    return Rows(
        payment=payment,
        events=of_events,
        effects=_of_payment(connection, payment_id, effect_table),
        refund_ids=refund_ids,
        quotes=_all(
            connection, quotes, or_(quotes.c.payment_id == payment_id, quotes.c.id.in_(quote_ids - {None}))
        ),
        risk=_of_payment(connection, payment_id, risk_decisions),
        reviews=_of_payment(connection, payment_id, reviews),
        postings=_postings(connection, objects),
        settlement_lines=_of_payment(connection, payment_id, settlement_lines),
        provider_webhooks=_of_payment(connection, payment_id, provider_events),
        deliveries=_all(
            connection, webhook_deliveries, webhook_deliveries.c.event_id.in_([row.id for row in of_events])
        ),
    )


def _of_payment(connection: Connection, payment_id: str, table: Table) -> tuple[Row[Any], ...]:
    return _all(connection, table, table.c.payment_id == payment_id)


def _all(connection: Connection, table: Table, where: Any) -> tuple[Row[Any], ...]:
    return tuple(connection.execute(select(table).where(where)))


def _postings(connection: Connection, objects: tuple[str, ...]) -> tuple[Posted, ...]:
    query = select(postings).where(postings.c.object_id.in_(objects)).order_by(postings.c.id)
    found = [(row, store.posting_by_key(connection, row.key)) for row in connection.execute(query).all()]
    return tuple(Posted(row.id, row.posted_at, posting) for row, posting in found if posting is not None)


def happenings(rows: Rows) -> Iterator[Happening]:
    """Every row as what happened when it was written, in no particular order."""
    for event in rows.events:
        yield _event(event)
    for decision in rows.risk:
        yield _risk(decision)
    for quote in rows.quotes:
        yield _quote(quote)
    for effect in rows.effects:
        yield from _effect(effect)
    for review in rows.reviews:
        yield from _review(review)
    for posted in rows.postings:
        yield _posting(posted)
    for line in rows.settlement_lines:
        yield _settlement_line(line)
    for webhook in rows.provider_webhooks:
        yield _provider_webhook(webhook)
    told = {row.id: f"#{row.sequence} {row.type}" for row in rows.events}
    for delivery in rows.deliveries:
        yield _delivery(delivery, told[delivery.event_id])


def shown(snapshot: Json) -> Json:
    """A payment or refund as its event froze it, without what may name the buyer."""
    view = {name: value for name, value in snapshot.items() if name not in _HIDDEN}
    if view.get("next_action"):
        view["next_action"] = {"type": view["next_action"]["type"]}
    return view


def _event(row: Row[Any]) -> Happening:
    was, status, reason = row.previous.get("status"), row.data["status"], row.data["status_reason"]
    step = f"{was} → {status}" if was is not None else f"still {status}" if row.sequence > 1 else status
    facts = {
        "event": row.id,
        "sequence": row.sequence,
        "type": row.type,
        "status": status,
        "status_reason": reason,
        "before": shown(row.previous),
    }
    text = f"#{row.sequence} {row.type}: {step}{f' ({reason})' if reason else ''}"
    return Happening(row.created_at, Kind.EVENT, row.object_id, text, facts)


def _risk(row: Row[Any]) -> Happening:
    why = "; ".join(f"{it['code']} {it['observed']} against {it['limit']}" for it in row.reasons)
    text = (
        f"risk: {row.decision} under policy {row.policy_version}{f': {why}' if why else ', no rule objected'}"
    )
    facts = {
        "verdict": row.decision,
        "policy_version": row.policy_version,
        "reasons": row.reasons,
        "inputs": row.inputs,
    }
    return Happening(row.decided_at, Kind.RISK, row.payment_id, text, facts)


def _quote(row: Row[Any]) -> Happening:
    quote = Quote.model_validate(row.body)
    answers = [it for it in quote.considered if it.get("kind") == "answer"]
    text = (
        f"quote {quote.sell_amount} → {quote.buy_amount} at {quote.client_rate.normalize()} "
        f"({quote.spread_bps} bp under {quote.liquidity_provider}'s mid, best of {len(answers)} asked), "
        f"held until {time_view(quote.expires_at)}"
    )
    facts = {
        "quote": row.id,
        "status_now": row.status,
        "client_rate": str(quote.client_rate),
        "mid_rate": str(quote.mid_rate),
        "spread": str(quote.spread),
        "lock_seconds": quote.lock_seconds,
        "expires_at": time_view(quote.expires_at),
        "considered": list(quote.considered),
    }
    return Happening(row.created_at, Kind.QUOTE, row.payment_id or row.id, text, facts)


def _effect(row: Row[Any]) -> Iterator[Happening]:
    declared = f"declared {row.operation} of {effects.amount(row)} at {row.provider}, key {row.key}"
    facts = {"effect": row.key, "operation": row.operation, "amount": str(effects.amount(row))}
    yield Happening(row.declared_at, Kind.EFFECT, row.object_id, declared, facts)
    for look in row.looks:
        evidence = Evidence.model_validate(look)
        text = f"no proof of {row.key}: {seen(evidence)}"
        facts = {"effect": row.key, "evidence": evidence.model_dump(mode="json", exclude_none=True)}
        yield Happening(evidence.seen_at, Kind.LOOK, row.object_id, text, facts)
    if row.answer is not None:
        yield _answer(row, effects.answer(row))


def _answer(row: Row[Any], answer: ProviderAnswer) -> Happening:
    decline = f" ({answer.decline.reason}, {answer.decline.provider_code})" if answer.decline else ""
    text = f"{row.provider} on {row.key}: {answer.outcome}{decline}; {seen(answer.evidence)}"
    facts = answer.model_dump(mode="json", exclude_none=True, exclude={"action", "repeat_is_safe"})
    facts["effect"] = row.key
    return Happening(answer.evidence.seen_at, Kind.ANSWER, row.object_id, text, facts, row.resolved_at)


def seen(evidence: Evidence) -> str:
    """`HTTP 200, succeeded, request req_…, note`; only what there is."""
    parts = (
        f"HTTP {evidence.http_status}" if evidence.http_status is not None else None,
        evidence.provider_status,
        f"request {evidence.request_id}" if evidence.request_id else None,
        evidence.note,
    )
    return ", ".join(part for part in parts if part) or "nothing was answered"


def _review(row: Row[Any]) -> Iterator[Happening]:
    facts = {"review": row.id, "reason": row.reason}
    asked = f"review {row.id} opened: {row.reason}"
    yield Happening(
        row.created_at, Kind.REVIEW_OPENED, row.object_id, asked, {**facts, "evidence": row.evidence}
    )
    if row.decided_at is not None:
        told = f"review {row.id}: {row.decision} by {row.decided_by}{f': {row.note}' if row.note else ''}"
        facts |= {"decision": row.decision, "decided_by": row.decided_by, "note": row.note}
        yield Happening(row.decided_at, Kind.REVIEW_DECIDED, row.object_id, told, facts)


def _posting(posted: Posted) -> Happening:
    legs = [
        {"account": it.account, "amount_minor": it.amount.minor, "amount": str(it.amount)}
        for it in posted.posting.entries
    ]
    text = f"posted {posted.posting.key} ({posted.posting.kind}): " + ", ".join(
        f"{it.account} {it.amount.major():+}" for it in posted.posting.entries
    )
    facts = {"posting": posted.posting.key, "kind": posted.posting.kind, "legs": legs}
    return Happening(posted.at, Kind.POSTING, posted.posting.object_id, text, facts)


def _settlement_line(row: Row[Any]) -> Happening:
    figures = {
        name: str(Money(**row.body[name]))
        for name in ("gross", "fee", "net")
        if row.body.get(name) is not None
    }
    told = ", ".join(f"{name} {amount}" for name, amount in figures.items())
    text = f"{row.provider}'s report {row.batch_id}, row {row.line_id} ({row.kind}): {told or row.reason}"
    facts = {"line": row.line_id, "batch": row.batch_id, "kind": row.kind, "state_now": row.state, **figures}
    return Happening(row.created_at, Kind.SETTLEMENT, row.payment_id, text, facts)


def _provider_webhook(row: Row[Any]) -> Happening:
    text = f"webhook from {row.provider}: {row.type} ({row.provider_event_id}), {row.state} now"
    facts = {
        "provider_event": row.provider_event_id,
        "type": row.type,
        "effect": row.effect_key,
        "state_now": row.state,
        "made_at": time_view(row.created_at),
    }
    return Happening(row.received_at, Kind.PROVIDER_WEBHOOK, row.payment_id, text, facts)


def _delivery(row: Row[Any], event: str) -> Happening:
    tries = f"after {row.attempts} {'try' if row.attempts == 1 else 'tries'}"
    trouble = row.last_error or (f"HTTP {row.last_status_code}" if row.last_status_code else "")
    text = f"webhook of {event} to the merchant ({row.endpoint_id}): {row.status} {tries}"
    if row.status != "delivered" and trouble:
        text += f", last {trouble}"
    facts = {
        "delivery": row.id,
        "event": row.event_id,
        "status_now": row.status,
        "attempts": row.attempts,
        "last_status_code": row.last_status_code,
    }
    return Happening(row.delivered_at or row.created_at, Kind.MERCHANT_WEBHOOK, row.event_id, text, facts)
