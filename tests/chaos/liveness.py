"""After the faults: how long until every payment has ended or is with a person, and until nothing moves any more."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import httpx
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError

from corridor.domain.payment import RefundStatus, Status
from corridor.ledger.seal import SETTLING
from corridor.storage.database import Database, DatabaseUnavailable
from corridor.storage.ledger_tables import ledger_seals, postings
from corridor.storage.tables import (
    event_positions,
    payments,
    refunds,
    reviews,
    settlement_batches,
    settlement_lines,
    unpositioned_events,
    webhook_deliveries,
)

LOOK_SECONDS = 0.5
PAY_OUT_SECONDS = 5.0
PATIENCE_SECONDS = 150.0
HELD_SECONDS = 14.0
MOST_CLOSING_ROUNDS = 3
SEALED_WITHIN_SECONDS = SETTLING.total_seconds() + 25.0
"""A posting settles first, and a sealer that found nothing rests ten seconds."""
OWNED = "with a person"
_OPEN = [status.value for status in Status if not status.is_terminal]
_OPEN_REFUNDS = [RefundStatus.PROCESSING.value, RefundStatus.REQUIRES_REVIEW.value]


@dataclass(frozen=True)
class Moving:
    """What is not at its end, counted; `scheduled` webhooks wait for the minutes of their retry schedule."""

    payments: Mapping[str, str]
    refunds: int
    webhooks: int
    scheduled: int
    payouts: int
    provider_webhooks: int

    @property
    def is_nothing(self) -> bool:
        return not list(self.left())

    def left(self) -> Iterator[str]:
        """What moves still, or never will: each part that is not at its end, by name."""
        yield from (f"{payment_id} is {status}" for payment_id, status in self.payments.items())
        counts = {
            "refunds are not at their end": self.refunds,
            "webhooks or events were not sent, or not a second time": self.webhooks,
            "payouts or rows of payouts are not booked": self.payouts,
            "webhooks of the provider wait to be taken": self.provider_webhooks,
        }
        yield from (f"{count} {what}" for what, count in counts.items() if count)

    def __str__(self) -> str:
        return (
            f"{len(self.payments)} payments, {self.refunds} refunds, {self.webhooks} webhooks, {self.payouts} payouts,"
            f" {self.provider_webhooks} provider webhooks"
            f" under way; {self.scheduled} webhooks wait for their schedule"
        )


@dataclass
class Recovery:
    """Seconds from the end of the faults, for each payment that was open then.

    `decided`: until nothing of ours was under way any more: it had ended, was with a person, or was captured and
    waited for the provider to pay out. `ended`: until it was terminal. `left`: what still moved when the wait was over.
    """

    open_then: Mapping[str, str]
    """What each was when the last fault was lifted, by payment."""
    decided: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    left: Moving | None = None
    looks: int = 0
    quiet_after_seconds: float = 0.0
    faults_ended_at_seconds: float = 0.0
    """When the last fault was lifted, counted as the plan counts."""
    paid_then: frozenset[str] = frozenset()
    """Payments that the provider had paid out by then, and we had not booked: to import them was for us."""

    def __post_init__(self) -> None:
        self.note(self.open_then, 0.0)

    def note(self, now: Mapping[str, str], seconds: float) -> None:
        """What a look at the open payments says of those that were open when the faults ended."""
        for payment_id in self.open_then:
            status = now.get(payment_id)
            if status is None or self._is_for_others(payment_id, status):
                self.decided.setdefault(payment_id, round(seconds, 2))
            if status is None:
                self.ended.setdefault(payment_id, round(seconds, 2))

    def owe(self, paid_out: Collection[str]) -> None:
        """Of those that were captured then, these had been paid out to us: they are decided when they have ended."""
        self.paid_then = frozenset(it for it in paid_out if self.open_then.get(it) == Status.CAPTURED)
        for payment_id in self.paid_then:
            self.decided.pop(payment_id, None)
            if payment_id in self.ended:
                self.decided[payment_id] = self.ended[payment_id]

    @property
    def waited_for_us(self) -> list[str]:
        """Payments for which something of ours had to recover when the faults ended."""
        return [it for it, status in self.open_then.items() if not self._is_for_others(it, status)]

    @property
    def recovered(self) -> dict[str, float]:
        """`decided` of those that waited for us."""
        return {it: self.decided[it] for it in self.waited_for_us if it in self.decided}

    @property
    def never_ended(self) -> Mapping[str, str]:
        """The payments among what is left, and what they are."""
        return {} if self.left is None else self.left.payments

    def _is_for_others(self, payment_id: str, status: str) -> bool:
        """A person decides it, or the provider has yet to pay it out."""
        return status == OWNED or (status == Status.CAPTURED and payment_id not in self.paid_then)


def percentile(seconds: Iterable[float], percent: int) -> float:
    """The value that so many per cent do not exceed; 0 of nothing."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0


async def from_now_on(database: Database) -> Recovery:
    """The payments that are open at this moment, as soon as the database can say: it may be coming up itself."""
    while (now := await _open_now(database)) is None:
        await asyncio.sleep(LOOK_SECONDS)
    return Recovery(now)


async def follow(database: Database, found: Recovery, ended_at: float) -> None:
    """Until canceled: note what ends while processes that the last faults had struck are still coming up."""
    while True:
        if (now := await _open_now(database)) is not None:
            found.note(now, time.monotonic() - ended_at)
        await asyncio.sleep(LOOK_SECONDS)


async def paid_out(database: Database, sandbox: httpx.AsyncClient, secret_key: str, until: float) -> set[str]:
    """Captured payments whose money the provider had begun to pay out by then, and has paid out now.

    By its own reports, or by the rows that we have of them. Only payouts that we have not imported are asked for all
    their rows: it is meant to be asked once.
    """
    imported, booked = await database.read(_reported)
    headers = {"Authorization": f"Bearer {secret_key}"}
    found = set(booked)
    async for payout in _listed(sandbox, headers, "/stripe/v1/payouts", {"status": "paid"}):
        is_complete = payout["reconciliation_status"] == "completed" and payout["created"] <= until
        if is_complete and payout["id"] not in imported:
            of_it = {"payout": payout["id"], "type": "charge", "expand[0]": "data.source"}
            async for row in _listed(sandbox, headers, "/stripe/v1/balance_transactions", of_it):
                found.add(row["source"]["metadata"].get("corridor_payment", ""))
    return found


async def _listed(
    sandbox: httpx.AsyncClient, headers: Mapping[str, str], path: str, query: Mapping[str, str]
) -> Any:
    cursor: Mapping[str, str] = {}
    while True:
        answer = await sandbox.get(path, params={"limit": "100", **query, **cursor}, headers=headers)
        answer.raise_for_status()
        page = answer.json()
        for row in page["data"]:
            yield row
        if not page["has_more"]:
            return
        cursor = {"starting_after": page["data"][-1]["id"]}


def _reported(connection: Connection) -> tuple[set[str], set[str]]:
    """Ids of the payouts we have whole, and captured payments of which we have a row that is not booked."""
    batches = select(settlement_batches.c.batch_id).where(settlement_batches.c.state == "imported")
    lines = select(settlement_lines.c.payment_id).where(
        settlement_lines.c.kind == "charge", settlement_lines.c.state.in_(("staged", "signaled"))
    )
    rows = connection.execute(lines).scalars()
    return set(connection.execute(batches).scalars()), {it for it in rows if it is not None}


async def until_sealed(database: Database) -> None:
    """When nothing is posted any more: wait until every posting is in the chain, or should have been long since."""
    deadline = time.monotonic() + SEALED_WITHIN_SECONDS
    while await database.read(_unsealed) and time.monotonic() < deadline:
        await asyncio.sleep(LOOK_SECONDS)


async def until_quiet(
    database: Database,
    sandbox: httpx.AsyncClient,
    found: Recovery,
    ended_at: float,
    people: "People",
    say: Callable[[str], None],
) -> None:
    """Wait until nothing moves, or nothing has changed for long: the audit then names what is stuck.

    `ended_at` is the monotonic moment at which the last fault was lifted. The provider is asked to pay out now and
    then, so that nobody waits for its calendar. What was seen is noted in `found`.
    """
    # Not at once: what a card's token hides from look-ups stays hidden for five seconds, and a payout's report would lack it.
    before, changed_at, paid_at = None, time.monotonic(), time.monotonic()
    rounds_left = MOST_CLOSING_ROUNDS
    while True:
        now = time.monotonic()
        if now - paid_at > PAY_OUT_SECONDS:
            await people.pay_out()
            paid_at = now
        moving = await look(database, sandbox)
        found.note(moving.payments, now - ended_at)
        found.looks += 1
        say(f"liveness {now - ended_at:.0f} s: {moving}")
        # A webhook whose scheduled minute comes is no sign that the others move.
        unscheduled = replace(moving, scheduled=0)
        before, changed_at = unscheduled, (changed_at if unscheduled == before else now)
        is_held = Status.CAPTURED in moving.payments.values() and now - changed_at > HELD_SECONDS
        if people.are_done and is_held and rounds_left:
            changed_at, rounds_left = now, rounds_left - 1
            people.close_the_day()
        if (moving.is_nothing and people.are_done) or now - changed_at > PATIENCE_SECONDS:
            found.quiet_after_seconds, found.left = now - ended_at, moving
            return
        await asyncio.sleep(LOOK_SECONDS)


class People(Protocol):
    """What the wait asks of those who place orders, and of those who are paid for them."""

    @property
    def are_done(self) -> bool:
        """Every story has ended."""
        ...

    def close_the_day(self) -> None:
        """Place orders large enough that the provider pays out what it holds back for refunds."""
        ...

    async def pay_out(self) -> None:
        """Let the provider pay out what it collected, and have it imported at once."""
        ...


async def look(database: Database, sandbox: httpx.AsyncClient) -> Moving:
    """Count what is under way, on our side and between the provider and us."""
    answer = await sandbox.get("/control/books/summary")
    answer.raise_for_status()
    queue = await sandbox.get("/control/webhooks")
    queue.raise_for_status()
    paid_out = sum(total["count"] for total in answer.json()["totals"].get("payout", {}).values())
    return await database.read(_count, paid_out, int(queue.json()["states"].get("waiting", 0)))


def _count(connection: Connection, paid_out: int, provider_webhooks: int) -> Moving:
    def count(table: object, *where: object) -> int:
        query = select(func.count()).select_from(table).where(*where)  # type: ignore[arg-type]
        return int(connection.execute(query).scalar_one())

    pending = webhook_deliveries.c.status == "pending"
    scheduled = count(webhook_deliveries, pending, webhook_deliveries.c.attempts >= 2)
    imported = count(settlement_batches, settlement_batches.c.state == "imported")
    staged = count(settlement_lines, settlement_lines.c.state.in_(("staged", "signaled")))
    unplaced = count(unpositioned_events) + count(event_positions, event_positions.c.dispatched_at.is_(None))
    return Moving(
        payments=_open_payments(connection),
        refunds=count(refunds, refunds.c.status.in_(_OPEN_REFUNDS)),
        webhooks=count(webhook_deliveries, pending) - scheduled + unplaced,
        scheduled=scheduled,
        payouts=max(0, paid_out - imported) + staged,
        provider_webhooks=provider_webhooks,
    )


async def _open_now(database: Database) -> Mapping[str, str] | None:
    """Open payments and what each is; None while the database is down."""
    try:
        return await database.read(_open_payments)
    except (DatabaseUnavailable, DBAPIError, OSError):
        return None


def _open_payments(connection: Connection) -> dict[str, str]:
    owned = set(connection.execute(select(reviews.c.object_id).where(reviews.c.status == "open")).scalars())
    rows = connection.execute(select(payments.c.id, payments.c.status).where(payments.c.status.in_(_OPEN)))
    return {
        row.id: OWNED if row.id in owned and row.status == Status.REQUIRES_REVIEW else row.status
        for row in rows
    }


def _unsealed(connection: Connection) -> int:
    sealed = select(postings.c.id).outerjoin(ledger_seals, ledger_seals.c.posting_id == postings.c.id)
    left = sealed.where(ledger_seals.c.posting_id.is_(None)).subquery()
    return int(connection.execute(select(func.count()).select_from(left)).scalar_one())
