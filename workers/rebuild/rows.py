"""Writes what histories say together into a fresh database: rows, events, frozen answers, ledger.

The functions that make a row when a payment is accepted and an event when it moves are the product's own; what they
are given is what histories tell. Postings come as they were booked, in the order they were booked, and go through the
ledger's own door, which proves that each balances and that no merchant's balance ever fell below zero.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, Table, insert, update

from activities import plans
from activities.contracts import Former, Standing
from activities.standing import PAYMENT_COLUMNS, REFUND_COLUMNS
from corridor.domain.accepted import Asked, NewPayment, NewRefund
from corridor.domain.effect import EffectState
from corridor.domain.failure import InvariantBroken, Refused
from corridor.domain.outcome import Outcome
from corridor.domain.payment import RefundStatus, Status
from corridor.domain.quote import QuoteStatus
from corridor.domain.settlement import BadRow
from corridor.fx.store import insert_quote
from corridor.ledger import store
from corridor.providers.registry import Registry
from corridor.storage import events, idempotency, payments, refunds, reviews, settlement
from corridor.storage.columns import UtcTime
from corridor.storage.merchants import NewMerchant, create_merchant
from corridor.storage.records import Json, former
from corridor.storage.tables import effects as effect_table
from corridor.storage.tables import payments as payment_table
from corridor.storage.tables import quotes, settlement_batches, settlement_lines
from corridor.storage.tables import refunds as refund_table
from workers.rebuild.fold import Booked, Books, Carried, Closing, EffectTold, LineTold, Objects, ReviewTold
from workers.rebuild.shelf import Shelf

UNKNOWN_NAME = "(not in histories)"
_UNTOUCHED: Mapping[str, int] = {
    "amount_captured_minor": 0,
    "amount_refund_reserved_minor": 0,
    "amount_refunded_minor": 0,
}
_SETTLED: Mapping[str, int] = {
    **_UNTOUCHED,
    "settled_minor": 0,
    "settled_charged_minor": 0,
    "settled_converted_minor": 0,
}
"""What was returned in full before it settled has settled nothing; of what has not settled these are null."""


_GAVE_BACK = (Status.FAILED, Status.CANCELED, Status.EXPIRED)


class Rebuild:
    """Writes `books` through one connection; `problems` names what histories do not suffice for."""

    def __init__(self, books: Books, providers: Registry) -> None:
        self.books = books
        self.providers = providers
        self.problems: list[str] = list(books.conflicts)

    def write(self, connection: Connection) -> None:
        """Everything, in one transaction; the database is empty before."""
        self._merchants(connection)
        for payment_id, carried in self._in_order(self.books.payments):
            self._payment(connection, payment_id, carried)
        for refund_id, carried in self._in_order(self.books.refunds):
            self._refund(connection, refund_id, carried)
        self._postings(connection)
        for _, effect in self.books.effects.in_order():
            self._effect(connection, effect)
            self.books.spill()
        for _, review in self.books.reviews.in_order():
            self._review(connection, review)
            self.books.spill()
        self._name_what_belongs_to_nothing()
        self._settlement(connection)

    def _in_order(self, objects: Objects) -> Iterator[tuple[str, Carried]]:
        """By id, which is by time of creation; those nobody can tell the acceptance of are named and left out."""
        for object_id, carried in objects.in_order():
            if carried.accepted is None or carried.accepted_at is None:
                self.problems.append(f"{object_id}: no history tells what was accepted")
            else:
                self._name_gaps(object_id, carried)
                yield object_id, carried
            self.books.spill()

    def _name_gaps(self, object_id: str, carried: Carried) -> None:
        missing = sorted(set(range(2, carried.sequence)).difference(carried.events))
        self.problems += [f"{object_id}: event {number} is told by no history" for number in missing]

    def _name_what_belongs_to_nothing(self) -> None:
        """What became of an effect or a review whose beginning no history tells."""
        self.problems += [
            f"{fate.workflow_id} tells of effect {key}, which no history declares"
            for key, fate in self.books.fates.in_order()
            if key not in self.books.effects
        ]
        self.problems += [
            f"{said.workflow_id} tells that {said.decided_by} decided review {review_id}, which no history opens"
            for review_id, said in self.books.decisions.in_order()
            if review_id not in self.books.reviews
        ]

    def _merchants(self, connection: Connection) -> None:
        """Rows that payments refer to: who a merchant is, and at what price, is configuration and in no history."""
        for _, carried in self.books.payments.in_order():
            if isinstance(carried.accepted, NewPayment) and carried.accepted_at is not None:
                new = NewMerchant(
                    id=carried.accepted.merchant_id,
                    name=UNKNOWN_NAME,
                    country=carried.accepted.destination_country,
                    settle_currency=carried.accepted.settle_currency,
                )
                create_merchant(connection, new, carried.accepted_at)

    def _payment(self, connection: Connection, payment_id: str, carried: Carried) -> None:
        new, at = carried.accepted, carried.accepted_at
        assert isinstance(new, NewPayment) and at is not None  # noqa: S101 (`_in_order` left out the others)
        _claim(connection, new.asked, new.merchant_id, payment_id, at)
        row = dict(payments.accept(connection, new, at)._mapping)  # noqa: SLF001 (SQLAlchemy's public name for it)
        row = self._events(connection, row, carried, "payment")
        _update(connection, payment_table, row, PAYMENT_COLUMNS)
        self._quote(connection, row, carried)

    def _quote(self, connection: Connection, row: Mapping[str, Any], carried: Carried) -> None:
        """The rate the payment holds; one that it gave back means nothing any more."""
        quote = carried.quotes.get(row["quote_id"])
        if quote is None or row["status"] in _GAVE_BACK:
            return
        insert_quote(connection, quote, quote.valid_from)
        is_used = row["status"] == Status.SETTLED
        held = {
            "status": QuoteStatus.USED if is_used else QuoteStatus.LOCKED,
            "payment_id": row["id"],
        }
        connection.execute(update(quotes).where(quotes.c.id == quote.id).values(**held))

    def _refund(self, connection: Connection, refund_id: str, carried: Carried) -> None:
        new, at = carried.accepted, carried.accepted_at
        assert isinstance(new, NewRefund) and at is not None  # noqa: S101 (`_in_order` left out the others)
        if new.payment_id not in self.books.payments or self.books.payments[new.payment_id].accepted is None:
            self.problems.append(f"{refund_id}: no history tells of its payment {new.payment_id}")
            return
        _claim(connection, new.asked, new.merchant_id, refund_id, at)
        row = dict(refunds.accept(connection, new, at)._mapping)  # noqa: SLF001 (SQLAlchemy's public name for it)
        row = self._events(connection, row, carried, "refund")
        _update(connection, refund_table, row, REFUND_COLUMNS)

    def _events(
        self, connection: Connection, row: dict[str, Any], carried: Carried, kind: str
    ) -> dict[str, Any]:
        """Write the object's events after the first; returns its row as the last step left it."""
        if 1 in carried.standings:
            row = _moved(row, carried.last(1), kind)
        view = _view(row, kind)
        for number in carried.events:
            old, told = view, carried.told(number)
            if number in carried.standings:
                row = _moved(row, carried.first(number), kind)
            view = told.shown if isinstance(told, Former) else _view(row, kind)
            events.append(
                connection,
                object_type=kind,
                object_id=row["id"],
                merchant_id=row["merchant_id"],
                sequence=number,
                event_type=told.event,
                data=view,
                previous=former(old, view),
                now=told.at,
            )
            if _answers(old, view, kind, carried):
                path = f"/v1/{kind}s/{row['id']}"
                idempotency.freeze_answer(connection, row["id"], 201, path, payments.render(view))
            if number in carried.standings:
                row = _moved(row, carried.last(number), kind)
                view = _view(row, kind)
        return row

    def _postings(self, connection: Connection) -> None:
        """In the order they were booked. Clocks of two workers may disagree, so one that comes too early waits."""
        left = [booked for _, booked in self._by_time().in_order() if not self._post(connection, booked)]
        while left:
            waiting, left = left, [booked for booked in left if not self._post(connection, booked)]
            if len(left) == len(waiting):
                self.problems += [
                    f"posting {booked.posting.key}: a balance would be overdrawn" for booked in left
                ]
                return

    def _by_time(self) -> Shelf[tuple[str, str], Booked]:
        found: Shelf[tuple[str, str], Booked] = Shelf()
        for _, booked in self.books.postings.in_order():
            found[_when(booked)] = booked
            found.spill()
        return found

    def _post(self, connection: Connection, booked: Booked) -> bool:
        if booked.posted_at is None:
            self.problems.append(f"posting {booked.posting.key}: no history tells when it was booked")
        at = booked.posted_at or datetime.fromisoformat("1970-01-01T00:00:00+00:00")
        try:
            with connection.begin_nested():
                store.post(connection, booked.posting, at)
        except Refused:
            return False
        except InvariantBroken as broken:
            self.problems.append(f"posting {booked.posting.key}: {broken}")
        return True

    def _effect(self, connection: Connection, effect: EffectTold) -> None:
        plan, fate = effect.plan, self.books.fates.get(effect.plan.effect_key)
        answer = None if fate is None else fate.answer
        payment = payments.find(connection, effect.payment_id)
        if payment is None:
            self.problems.append(f"effect {plan.effect_key}: its payment is in no history")
            return
        provider = self.providers[plan.provider]
        instruction = plans.instruction(
            payment, plan.operation, plan.effect_key, effect.object_id, plan.amount
        )
        declared_reference = getattr(instruction, "provider_reference", None)
        values: dict[str, Any] = {
            "key": plan.effect_key,
            "object_id": effect.object_id,
            "payment_id": effect.payment_id,
            "operation": plan.operation,
            "provider": plan.provider,
            "currency": plan.amount.currency,
            "amount_minor": plan.amount.minor,
            "request": provider.freeze(instruction).model_dump(),
            "state": EffectState.DECLARED if answer is None else EffectState.of(answer.outcome),
            "provider_reference": (answer.provider_reference if answer else None) or declared_reference,
            "answer": None if answer is None else answer.model_dump(mode="json"),
            "looks": [],
            "declared_at": plan.declared_at,
            "resolved_at": None if fate is None else fate.resolved_at,
        }
        connection.execute(insert(effect_table).values(**values))

    def _review(self, connection: Connection, told: ReviewTold) -> None:
        payment = payments.find(connection, told.payment_id)
        if payment is None:
            self.problems.append(f"review {told.review_id}: its payment is in no history")
            return
        reviews.open_review(
            connection,
            review_id=told.review_id,
            payment_id=told.payment_id,
            object_id=told.object_id,
            merchant_id=payment.merchant_id,
            reason=told.reason,
            evidence={},
            now=told.created_at,
        )
        end = self._end_of(told)
        if end is not None:
            reviews.decide(connection, told.review_id, end.decision, end.decided_by, end.note, end.at)

    def _end_of(self, told: ReviewTold) -> Closing | None:
        """A person's word names the review, so it ended it whatever the clocks say, unless it came too late.

        Then its step told when the review had ended already, and that is the moment of the evidence that ended it.
        """
        said = self.books.decisions.get(told.review_id)
        others = list(self._without_a_person(told.object_id, said))
        if said is not None:
            return next((it for it in others if it.at == said.at), said)
        return min((it for it in others if it.at >= told.created_at), key=lambda it: it.at, default=None)

    def _without_a_person(self, object_id: str, said: Closing | None) -> Iterator[Closing]:
        """What may have ended a review before anybody had to. A person's own finding is on record as evidence too."""
        yield from self.books.withdrawals.get(object_id, [])
        own = None if said is None else (said.decision, f"{said.decided_by}: {said.note}")
        for _, fate in self.books.fates.in_order(f"{object_id}:"):
            if fate.answer is None or fate.resolved_at is None:
                continue
            evidence = fate.answer.evidence
            if (evidence.provider_status, evidence.note) != own:
                decision = "found" if fate.answer.outcome is Outcome.APPROVED else "absent"
                note = f"the provider's record: {evidence.provider_status}"
                yield Closing(fate.resolved_at, decision, "evidence", note)

    def _settlement(self, connection: Connection) -> None:
        for (provider, line_id), line in self.books.lines.in_order():
            self.books.spill()
            state, reason = self._state_of(provider, line_id, line)
            values = {
                "provider": provider,
                "line_id": line_id,
                "batch_id": line.batch_id,
                "state": state,
                "reason": reason,
                "created_at": line.staged_at,
                **_line_values(line),
            }
            connection.execute(insert(settlement_lines).values(**values))
        for (provider, batch_id), told in self.books.batches.in_order():
            if told.batch is None:
                self.problems.append(f"settlement batch {batch_id}: no history tells its control total")
                continue
            settlement.know_batch(connection, provider, told.batch)
            if told.closed_at is not None:
                settlement.close(connection, provider, batch_id, told.closed_at)
        connection.execute(update(settlement_batches).values(cursor=None))

    def _state_of(self, provider: str, line_id: str, line: LineTold) -> tuple[str, str | None]:
        """What became of a row is what was posted for it."""
        row = line.row
        if isinstance(row, BadRow):
            return "bad", row.reason[:200]
        batch = self.books.batches.get((provider, line.batch_id))
        if row.kind == "payout":
            closed = batch is not None and batch.closed_at is not None
            return ("posted", "control total") if closed else ("staged", None)
        if f"{row.payment_id}:settle:{line_id}" in self.books.postings:
            return "posted", None
        booked = self.books.postings.get(f"{provider}:{line_id}")
        if booked is not None:
            return ("unmatched" if booked.posting.kind == "adjustment" else "posted"), None
        payment = self.books.payments.get(row.payment_id or "")
        is_told = payment is not None and (provider, line_id) in payment.told_lines
        return ("signaled" if is_told else "staged"), None


def _claim(
    connection: Connection, asked: Asked | None, merchant_id: str, object_id: str, at: datetime
) -> None:
    if asked is not None:
        idempotency.claim(connection, merchant_id, asked.idempotency_key, asked.fingerprint, object_id, at)


def _moved(row: Mapping[str, Any], told: Standing, kind: str) -> dict[str, Any]:
    """The row with the columns a step told of; what it left out is null or zero."""
    untouched = _SETTLED if told.row["status"] == Status.SETTLED else _UNTOUCHED
    table, columns = (payment_table, PAYMENT_COLUMNS) if kind == "payment" else (refund_table, REFUND_COLUMNS)
    values = {name: _value(table, name, told.row.get(name, untouched.get(name))) for name in columns}
    return {**row, "updated_at": told.at, **values, "sequence": told.sequence}


def _value(table: Table, name: str, told: Any) -> Any:
    is_time = isinstance(table.c[name].type, UtcTime)
    return datetime.fromisoformat(told) if is_time and isinstance(told, str) else told


def _view(row: Mapping[str, Any], kind: str) -> dict[str, Any]:
    made: Any = SimpleNamespace(**row)
    return payments.snapshot(made) if kind == "payment" else refunds.snapshot(made)


def _answers(before: Json, after: Json, kind: str, carried: Carried) -> bool:
    """Whether this move froze the answer of the request. A refund the limit refused is answered by the API instead."""
    if kind == "payment":
        return bool(before["status"] == Status.PROCESSING and after["status"] != Status.PROCESSING)
    left = before["status"] == RefundStatus.PROCESSING and after["status"] != RefundStatus.PROCESSING
    return left and "reserved_from" in carried.last(carried.sequence).row


def _update(connection: Connection, table: Table, row: Mapping[str, Any], columns: tuple[str, ...]) -> None:
    values = {name: row[name] for name in (*columns, "sequence", "updated_at")}
    connection.execute(update(table).where(table.c.id == row["id"]).values(**values))


def _when(booked: Booked) -> tuple[str, str]:
    return ("" if booked.posted_at is None else booked.posted_at.isoformat()), booked.posting.key


def _line_values(line: LineTold) -> dict[str, Any]:
    row = line.row
    if isinstance(row, BadRow):
        return {"kind": "bad", "payment_id": None, "effect_key": None, "body": {"raw": row.raw}}
    return {
        "kind": row.kind,
        "payment_id": row.payment_id,
        "effect_key": row.effect_key,
        "body": row.model_dump(mode="json"),
    }
