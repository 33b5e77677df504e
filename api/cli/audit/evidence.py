"""What the proofs stand on: plain records of both sides, ours read from the database, theirs asked over HTTP."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from sqlalchemy import Connection, Select, select

from corridor.domain.money import Money
from corridor.domain.quote import Quote
from corridor.ledger import proof
from corridor.ledger.report import Report
from corridor.storage import ledger_tables, tables
from corridor.storage.database import Database

PAGE = 1000

Json = dict[str, Any]


@dataclass(frozen=True)
class Movement:
    """One line of the provider's own books. `key` names the cause: our effect key, payment or the payout's id."""

    kind: str
    key: str
    amount: Money


@dataclass(frozen=True)
class Effect:
    """A provider call we declared, and what we hold of it."""

    key: str
    payment_id: str
    operation: str
    state: str
    amount: Money
    looks: int = 0
    is_answered: bool = True
    """Whether the answer that decided it is stored, with what was seen."""


@dataclass(frozen=True)
class Posted:
    """A posting with its legs: (account, signed minor units, debits positive)."""

    key: str
    kind: str
    object_id: str
    legs: tuple[tuple[str, int], ...]

    def on(self, prefix: str) -> dict[str, int]:
        """Signed minor units by currency of the legs on accounts that begin so."""
        sums: dict[str, int] = {}
        for account, minor in self.legs:
            if account.startswith(prefix):
                currency = account.rpartition("/")[2]
                sums[currency] = sums.get(currency, 0) + minor
        return sums


@dataclass(frozen=True)
class Paid:
    """A payment as it ended."""

    id: str
    reference: str
    corridor: str
    status: str
    reason: str | None
    decline: str | None
    sequence: int
    amount: Money
    captured: Money
    refunded: Money
    settled: Money | None


@dataclass(frozen=True)
class Returned:
    """A refund as it ended; `is_reported` when a settlement row of the provider told of it."""

    id: str
    payment_id: str
    status: str
    sequence: int
    amount: Money
    is_reported: bool


@dataclass(frozen=True)
class Told:
    """An event of one object, which became `status` by it; `position` is its place in the merchant's feed."""

    id: str
    merchant_id: str
    object_id: str
    sequence: int
    position: int | None
    status: str = ""


@dataclass(frozen=True)
class Received:
    """A webhook as it arrived at a merchant: who signed it is checked by the receiver, not by us."""

    merchant: str
    event_id: str
    object_id: str
    sequence: int
    is_verified: bool
    status: int
    problem: str = ""
    """Why the receiver refused the signature, in its own words."""


@dataclass(frozen=True)
class Evidence:
    """Both sides at one moment at which nothing moved any more."""

    ledger: Report
    postings: tuple[Posted, ...]
    effects: tuple[Effect, ...]
    payments: tuple[Paid, ...]
    refunds: tuple[Returned, ...]
    events: tuple[Told, ...]
    batches: Mapping[str, Money]
    quotes: Mapping[str, Quote]
    deliveries: int
    undelivered: frozenset[str]
    """Ids of events whose webhook waits for a later attempt of its schedule."""
    judged: frozenset[str]
    """Ids of payments that a person declined or whose risk decision was no."""
    movements: tuple[Movement, ...]
    received: tuple[Received, ...]


async def gather(database: Database, sandbox: httpx.AsyncClient) -> Evidence:
    """Read everything. Our side is one snapshot."""
    ours = await database.read(_ours)
    ledger = await database.read(proof.verify)
    movements = [movement(row) async for row in _pages(sandbox, "/control/books")]
    received = [_received(row) async for row in _pages(sandbox, "/merchant/deliveries")]
    return Evidence(ledger=ledger, movements=tuple(movements), received=tuple(received), **ours)


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
        "deliveries": len(connection.execute(select(tables.webhook_deliveries.c.id)).all()),
        "undelivered": frozenset(connection.execute(_undelivered()).scalars()),
        "judged": frozenset(_judged(connection)),
    }


def _undelivered() -> Select[tuple[str]]:
    deliveries = tables.webhook_deliveries
    return select(deliveries.c.event_id).where(
        deliveries.c.status == "pending", deliveries.c.next_attempt_at.is_not(None), deliveries.c.attempts > 0
    )


def _judged(connection: Connection) -> Iterator[str]:
    decisions, reviews = tables.risk_decisions, tables.reviews
    yield from connection.execute(
        select(decisions.c.payment_id).where(decisions.c.decision == "decline")
    ).scalars()
    yield from connection.execute(
        select(reviews.c.payment_id).where(reviews.c.decision == "decline")
    ).scalars()


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
    return Movement(kind, key or row["object_id"], Money(row["amount"], row["currency"].upper()))


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
