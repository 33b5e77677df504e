"""Gathers the evidence: ours is read from the database, theirs is asked of the sandbox over HTTP."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
from sqlalchemy import Connection, select

from api.cli.audit.evidence import (
    Acted,
    Decided,
    Effect,
    Evidence,
    Kept,
    Lock,
    Movement,
    Paid,
    Posted,
    Received,
    Returned,
    Taken,
    Told,
    Undelivered,
)
from corridor.domain.money import Money
from corridor.domain.quote import Quote, QuoteStatus, Slippage
from corridor.ledger import proof
from corridor.storage import ledger_tables, operator_acts, tables
from corridor.storage.database import Database

PAGE = 1000

Json = dict[str, Any]


async def gather(database: Database, sandbox: httpx.AsyncClient) -> Evidence:
    """Read everything. Our side is one snapshot."""
    # First of all: what is taken after our snapshot could not be in it.
    taken = [_taken(row) async for row in _pages(sandbox, "/control/webhooks/delivered")]
    ours, read_at = await database.read(_ours), datetime.now(UTC)
    ledger = await database.read(proof.verify)
    movements = [movement(row) async for row in _pages(sandbox, "/control/books")]
    received = [_received(row) async for row in _pages(sandbox, "/merchant/deliveries")]
    queue = await sandbox.get("/control/webhooks")
    queue.raise_for_status()
    return Evidence(
        ledger=ledger, movements=tuple(movements), received=tuple(received), taken=tuple(taken),
        queue=queue.json()["states"], read_at=read_at, **ours,
    )  # fmt: skip


async def _pages(sandbox: httpx.AsyncClient, path: str) -> Any:
    after = 0
    while True:
        answer = await sandbox.get(path, params={"after": after, "limit": PAGE})
        answer.raise_for_status()
        page = answer.json()
        for row in page["data"]:
            yield row
        if len(page["data"]) < PAGE:
            return
        after = page["next_after"]


def _ours(connection: Connection) -> Json:
    return {
        "postings": tuple(_postings(connection)),
        "effects": tuple(_effects(connection)),
        "payments": tuple(_payments(connection)),
        "refunds": tuple(_refunds(connection)),
        "events": tuple(_events(connection)),
        "batches": {
            row.batch_id: Money(row.total_minor, row.currency)
            for row in connection.execute(select(tables.settlement_batches))
        },
        "quotes": {
            row.payment_id: Quote.model_validate(row.body)
            for row in connection.execute(select(tables.quotes))
            if row.payment_id is not None
        },
        "locks": tuple(_locks(connection)),
        "reviews": tuple(_reviews(connection)),
        "operators": frozenset(
            connection.execute(
                select(tables.api_keys.c.id).where(tables.api_keys.c.role == "operator")
            ).scalars()
        ),
        "acts": tuple(_acts(connection)),
        "deliveries": len(connection.execute(select(tables.webhook_deliveries.c.id)).all()),
        "undelivered": tuple(_undelivered(connection)),
        "judged": frozenset(_judged(connection)),
        "inbox": tuple(_inbox(connection)),
    }


def _undelivered(connection: Connection) -> Iterator[Undelivered]:
    deliveries = tables.webhook_deliveries
    for row in connection.execute(select(deliveries).where(deliveries.c.status == "pending")):
        yield Undelivered(row.event_id, row.attempts, row.next_attempt_at)


def _inbox(connection: Connection) -> Iterator[Kept]:
    events = tables.provider_events.c
    query = select(events.provider_event_id, events.state, events.tries, events.due_at)
    for row in connection.execute(query):
        yield Kept(row.provider_event_id, row.state, row.tries, row.due_at)


def _judged(connection: Connection) -> Iterator[str]:
    decisions, reviews = tables.risk_decisions, tables.reviews
    yield from connection.execute(
        select(decisions.c.payment_id).where(decisions.c.decision == "decline")
    ).scalars()
    yield from connection.execute(
        select(reviews.c.payment_id).where(reviews.c.decision == "decline")
    ).scalars()


def _locks(connection: Connection) -> Iterator[Lock]:
    rows = {row.id: row for row in connection.execute(select(tables.quotes))}
    promised = _promised(connection)
    payments = {row.id: row for row in connection.execute(select(tables.payments))}
    for row in rows.values():
        if row.payment_id is not None:
            payment, first = payments[row.payment_id], rows.get(promised.get(row.payment_id, row.id))
            yield Lock(
                payment_id=payment.id,
                quote=Quote.model_validate(row.body),
                is_used=row.status == QuoteStatus.USED,
                promised=None if first is None else Quote.model_validate(first.body),
                slippage=Slippage(max_bps=payment.slippage_max_bps, policy=payment.slippage_policy),
            )


def _promised(connection: Connection) -> dict[str, str]:
    """By payment, the first quote its events tell of: what one event changed, it tells as it was before too."""
    found: dict[str, str] = {}
    query = select(tables.events.c.object_id, tables.events.c.data, tables.events.c.previous)
    query = query.where(tables.events.c.object_type == "payment").order_by(tables.events.c.sequence)
    for row in connection.execute(query):
        quote_id = row.previous.get("quote") or row.data.get("quote")
        if quote_id is not None:
            found.setdefault(row.object_id, quote_id)
    return found


def _reviews(connection: Connection) -> Iterator[Decided]:
    for row in connection.execute(select(tables.reviews).order_by(tables.reviews.c.id)):
        yield Decided(row.id, row.status, row.decision, row.decided_by, row.note, row.decided_at)


def _acts(connection: Connection) -> Iterator[Acted]:
    for row in operator_acts.since(connection, None):
        yield Acted(row.id, row.at, row.who, row.command, row.words, row.outcome)


def _postings(connection: Connection) -> Iterator[Posted]:
    legs: dict[int, list[tuple[str, int]]] = {}
    for row in connection.execute(select(ledger_tables.entries)):
        legs.setdefault(row.posting_id, []).append((row.account, row.amount_minor))
    for row in connection.execute(select(ledger_tables.postings).order_by(ledger_tables.postings.c.id)):
        yield Posted(row.key, row.kind, row.object_id, tuple(legs.get(row.id, ())))


def _effects(connection: Connection) -> Iterator[Effect]:
    for row in connection.execute(select(tables.effects)):
        amount = Money(row.amount_minor, row.currency)
        is_answered = bool((row.answer or {}).get("evidence"))
        yield Effect(row.key, row.payment_id, row.operation, row.state, amount, len(row.looks), is_answered)


def _payments(connection: Connection) -> Iterator[Paid]:
    for row in connection.execute(select(tables.payments).order_by(tables.payments.c.id)):
        yield Paid(
            id=row.id,
            reference=row.merchant_reference,
            corridor=row.corridor,
            status=row.status,
            reason=row.status_reason,
            decline=row.decline["category"] if row.decline else None,
            sequence=row.sequence,
            amount=Money(row.amount_minor, row.currency),
            captured=Money(row.amount_captured_minor, row.currency),
            refunded=Money(row.amount_refunded_minor, row.currency),
            settled=None if row.settled_minor is None else Money(row.settled_minor, row.settle_currency),
        )


def _refunds(connection: Connection) -> Iterator[Returned]:
    lines = select(tables.settlement_lines.c.effect_key).where(tables.settlement_lines.c.kind == "refund")
    reported = {(key or "").partition(":")[0] for key in connection.execute(lines).scalars()}
    for row in connection.execute(select(tables.refunds).order_by(tables.refunds.c.id)):
        amount = Money(row.amount_minor, row.currency)
        yield Returned(row.id, row.payment_id, row.status, row.sequence, amount, row.id in reported)


def _events(connection: Connection) -> Iterator[Told]:
    places = tables.event_positions
    query = select(tables.events, places.c.position).outerjoin(
        places, places.c.event_id == tables.events.c.id
    )
    for row in connection.execute(query.order_by(tables.events.c.object_id, tables.events.c.sequence)):
        yield Told(row.id, row.merchant_id, row.object_id, row.sequence, row.position, row.data["status"])


def movement(row: Json) -> Movement:
    """Who caused a line: captures and refunds carry our key of their own, cancels only the request's key."""
    marks, kind = row["metadata"], row["effect"]
    key = {
        "authorise": marks.get("corridor_effect"),
        "capture": marks.get("corridor_capture") or marks.get("corridor_effect"),
        "cancel": row["idempotency_key"],
        "refund": marks.get("corridor_effect"),
        "refund_failed": f"{marks.get('corridor_refund')}:came_back",
        "fee": marks.get("corridor_payment"),
    }.get(kind)
    at = datetime.fromtimestamp(row["at_ms"] / 1000, UTC)
    amount = Money(row["amount"], row["currency"].upper())
    return Movement(kind, key or row["object_id"], amount, at, row["intent"])


def _taken(row: Json) -> Taken:
    return Taken(row["event_id"], datetime.fromtimestamp(row["at_ms"] / 1000, UTC))


def _received(row: Json) -> Received:
    event = row["event"] or {}
    return Received(
        merchant=row["merchant"],
        event_id=str(event.get("id", row["webhook_id"])),
        object_id=event.get("subject", {}).get("id", ""),
        sequence=event.get("sequence", 0),
        is_verified=row["verified"],
        status=row["status"],
        problem=row["problem"] or "",
    )
