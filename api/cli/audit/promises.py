"""The proofs about what was promised: to the shop by an answer, to the buyer by a limit, to everybody by the state machine.

Pure, like the others: records in, counterexamples out.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime
from typing import Any

from api.cli.audit.evidence import (
    Acted,
    Decided,
    Effect,
    Movement,
    Ordered,
    Paid,
    Received,
    Returned,
    Taken,
    Told,
)
from api.cli.audit.proofs import Proof, proof
from corridor.domain.payment import REFUND_TRANSITIONS, TRANSITIONS, RefundStatus, Status, StatusReason
from corridor.storage.operator_acts import OK, REVIEW_DECIDE
from corridor.storage.records import time_view
from corridor.storage.reviews import BY_NOBODY

_TABLES: Mapping[str, tuple[str, Mapping[str, Set[str]]]] = {
    "pay_": (Status.PROCESSING, {str(a): set(map(str, b)) for a, b in TRANSITIONS.items()}),
    "rfd_": (RefundStatus.PROCESSING, {str(a): set(map(str, b)) for a, b in REFUND_TRANSITIONS.items()}),
}
_BY_PROVIDER = {StatusReason.DECLINED_BY_PROVIDER: "declined", StatusReason.NOT_SENT: "not_sent"}
_BY_PERSON_OR_RULE = (StatusReason.DECLINED_BY_RISK, StatusReason.DECLINED_BY_REVIEWER)
_DONE: Mapping[str, Set[str]] = {
    "capture": {Status.CAPTURED, Status.SETTLED},
    "cancel": {Status.CANCELED, Status.EXPIRED},
}
"""Where a payment is after a command that was carried out. Refunds change no status of it."""
_RESOLVED = ("approved", "declined", "not_sent")


def is_declared(object_id: str, before: str | None, after: str) -> bool:
    """Whether the closed tables allow this step; an event that changes no status is no step."""
    table = _TABLES.get(object_id[:4])
    if table is None:
        return True
    first, steps = table
    return after == first if before is None else after == before or after in steps[before]


def steps_are_declared(events: Iterable[Told]) -> Proof:
    """Every object went only along the closed tables, from the first event to the last."""
    steps, against = 0, []
    before: dict[str, str] = {}
    for event in sorted(events, key=lambda it: (it.object_id, it.sequence)):
        steps += 1
        last = before.get(event.object_id)
        if not is_declared(event.object_id, last, event.status):
            against.append(f"{event.object_id} went from {last} to {event.status} at event {event.sequence}")
        before[event.object_id] = event.status
    return proof("no object left the declared transitions", steps, "steps", against)


def rows_say_what_was_told_last(
    payments: Sequence[Paid], refunds: Sequence[Returned], events: Iterable[Told]
) -> Proof:
    """The status in a payment's or refund's own row is that of its last event: what a shop reads is what it was told."""
    last: dict[str, Told] = {}
    for event in events:
        if event.object_id not in last or last[event.object_id].sequence < event.sequence:
            last[event.object_id] = event
    rows = {it.id: it.status for it in payments} | {it.id: it.status for it in refunds}
    against = [
        f"{name} is {status}, its last event said {last[name].status if name in last else 'nothing'}"
        for name, status in rows.items()
        if name not in last or last[name].status != status
    ]
    claim = "every payment and refund is what its last event said"
    return proof(claim, len(rows), "payments and refunds", against)


def commands_are_reflected(
    ordered: Iterable[Ordered], payments: Iterable[Paid], with_a_person: Set[str] = frozenset()
) -> Proof:
    """What was answered 200 is so for good; what was acknowledged with 202 came about, or was refused by an answer.

    `with_a_person`: payments that a restoration handed to a person, who may decide otherwise; they are noted.
    """
    rows = {it.id: it for it in payments}
    said = [it for it in ordered if it.statuses & {200, 202}]
    handed_over = [it for it in said if it.payment_id in with_a_person]
    held = [it for it in said if it.payment_id not in with_a_person]
    against = [
        f"{it.command} of {it.payment_id} ({it.key}): {wrong}"
        for it in held
        if (wrong := _not_reflected(it, rows.get(it.payment_id))) is not None
    ]
    kinds = Counter(it.command for it in said if 200 in it.statuses)
    notes = [f"{count} times {command} was answered 200" for command, count in sorted(kinds.items())]
    notes += [f"{len(handed_over)} with a person since a restoration"] if handed_over else []
    claim = "every capture and cancel that was acknowledged came about, or was refused by an answer"
    return proof(claim, len(said), "commands", against, notes)


def _not_reflected(ordered: Ordered, payment: Paid | None) -> str | None:
    """What contradicts the answers, if anything does."""
    if payment is None:
        return "the payment does not exist"
    is_done = payment.status in _DONE[ordered.command]
    if 200 in ordered.statuses:
        if not is_done:
            return f"was answered 200, and the payment is {payment.status}"
        if ordered.command == "capture" and payment.captured != ordered.captured:
            return f"was told that {ordered.captured} are captured, and they are {payment.captured}"
        return None
    is_refused = any(400 <= status < 500 for status in ordered.statuses)
    return (
        None
        if is_done or is_refused
        else f"was acknowledged, never refused, and the payment is {payment.status}"
    )


def provider_webhooks_are_kept(
    taken: Sequence[Taken], inbox: Set[str], gone: Sequence[tuple[datetime, datetime]] = ()
) -> Proof:
    """Whatever we answered 2xx to is in our inbox: the provider does not send it again.

    `gone`: from when to when what was stored is lost, for the database came back older. Those webhooks are noted.
    """
    missing = [it for it in taken if it.event_id not in inbox]
    lost = [it for it in missing if any(since <= it.at <= until for since, until in gone)]
    against = [
        f"{it.event_id} was taken at {it.at}, and we do not have it" for it in missing if it not in lost
    ]
    notes = [f"{len(lost)} lost with a database that came back older"] if lost else []
    claim = "every webhook that the provider was thanked for is kept"
    return proof(claim, len({it.event_id for it in taken}), "provider webhooks", against, notes)


def acknowledged_exist(acknowledged: Mapping[str, str], existing: Set[str]) -> Proof:
    """`acknowledged`: by the key of the request, the id that an answer 201 or 202 named."""
    against = [f"{key} was answered with {it}, which does not exist" for key, it in acknowledged.items()
               if it not in existing]  # fmt: skip
    return proof("everything acknowledged exists", len(acknowledged), "acknowledgements", against)


def one_key_made_one_object(named: Mapping[str, Set[str]], payments: Sequence[Paid]) -> Proof:
    """`named`: by key, every id its answers named. Shops here give each order its key as reference."""
    against = [
        f"{key} was answered with {', '.join(sorted(ids))}" for key, ids in named.items() if len(ids) > 1
    ]
    against += [
        f"{count} payments have the reference {reference}"
        for reference, count in Counter(it.reference for it in payments).items()
        if count > 1
    ]
    return proof("one key made one object, however often it was sent", len(named), "keys", against)


def money_moved_within_limits(movements: Iterable[Movement], payment_of: Mapping[str, str]) -> Proof:
    """By the provider's books: one capture of a payment at most, and never more refunded than captured.

    `payment_of`: the payment of each effect key. A refund that came back counts against what was refunded.
    """
    captures: Counter[str] = Counter()
    left: Counter[tuple[str, str]] = Counter()
    for it in movements:
        payment = payment_of.get(it.key.removesuffix(":came_back"), it.key)
        if it.kind == "capture":
            captures[payment] += 1
        sign = {"capture": 1, "refund": -1, "refund_failed": 1}.get(it.kind, 0)
        left[payment, it.amount.currency] += sign * it.amount.minor
    against = [f"{payment} was captured {count} times" for payment, count in captures.items() if count > 1]
    against += [
        f"{payment}: {-minor} minor units of {currency} more refunded than captured"
        for (payment, currency), minor in left.items()
        if minor < 0
    ]
    claim = "no payment was captured twice or refunded beyond its capture"
    return proof(claim, len(captures), "captured payments", against)


def failures_are_proven(payments: Sequence[Paid], effects: Iterable[Effect], judged: Set[str]) -> Proof:
    """Nothing failed on a guess: a failure has the provider's stored answer, or a rule's or a person's decision.

    `judged`: payments that a rule or a person said no to. An effect whose fate is open contradicts any failure.
    """
    by_payment: dict[str, list[Effect]] = {}
    for effect in effects:
        by_payment.setdefault(effect.payment_id, []).append(effect)
    failed = [payment for payment in payments if payment.status == Status.FAILED]
    against = []
    for payment in failed:
        own = by_payment.get(payment.id, [])
        against += [
            f"{payment.id} failed while {it.key} is {it.state}" for it in own if it.state not in _RESOLVED
        ]
        against += [f"{payment.id} failed, and {it.key} is {it.state} without an answer" for it in own
                    if it.state in _RESOLVED and not it.is_answered]  # fmt: skip
        if not _has_ground(payment, own, judged):
            against.append(f"{payment.id} failed as {payment.reason} without anything that says so")
    return proof("no payment failed without proof", len(payments), "payments", against,
                 [f"{len(failed)} failed"])  # fmt: skip


def _has_ground(payment: Paid, effects: Sequence[Effect], judged: Set[str]) -> bool:
    reason = StatusReason(payment.reason) if payment.reason else None
    if reason in _BY_PROVIDER:
        return any(effect.state == _BY_PROVIDER[reason] for effect in effects)
    if reason in _BY_PERSON_OR_RULE:
        return payment.id in judged
    return reason is not None


def decisions_are_on_record(
    told: Sequence[Mapping[str, Any]],
    reviews: Sequence[Decided],
    operators: Set[str],
    acts: Iterable[Acted],
    sent: Container[tuple[str, str | None]] = (),
) -> Proof:
    """Who decided what, when and why stands in the review's row as the operator was told; and nobody else decided.

    Each decision is one act on the record of operators' acts, and each such act is one decision.

    `told`: the body of each answer 200 to a decision. `operators`: ids of operators' keys. `sent`: reviews and decisions
    that were sent; the answer of one that was carried out may be lost with Temporal's store, and its repeat comes late.
    """
    rows = {review.id: review for review in reviews}
    answered: dict[str, set[tuple[Any, ...]]] = {}
    for answer in told:
        answered.setdefault(answer["id"], set()).add(_decision(answer))
    against = [
        f"{name} was answered with {len(them)} decisions" for name, them in answered.items() if len(them) > 1
    ]
    for name, them in answered.items():
        against += [
            f"{name}: {it} was answered, {_row(rows.get(name))} is on record"
            for it in them
            if it != _row(rows.get(name))
        ]
    for review in reviews:
        if review.status == "decided" and not (
            review.decision and review.decided_by and review.note and review.decided_at
        ):
            against.append(f"{review.id} was decided, and who, what, why or when is missing")
        elif (
            review.decided_by in operators
            and review.id not in answered
            and (review.id, review.decision) not in sent
        ):
            against.append(f"{review.id} says {review.decided_by} decided {review.decision}, who never did")
        elif review.decided_by not in (*operators, *BY_NOBODY, None):
            against.append(f"{review.id} was decided by {review.decided_by}, who is no operator")
    against += _otherwise_on_record(reviews, acts)
    return proof("every decision of a person is on record: who, what, why, when", len(reviews), "reviews",
                 against, [f"{len(answered)} decided by persons"])  # fmt: skip


def _otherwise_on_record(reviews: Sequence[Decided], acts: Iterable[Acted]) -> Iterator[str]:
    """Persons' decisions and the acts that are decisions, one for one."""
    made: Counter[tuple[Any, ...]] = Counter(
        (review.id, review.decided_by, review.decision, review.decided_at)
        for review in reviews
        if review.status == "decided" and review.decided_by not in BY_NOBODY
    )
    recorded: Counter[tuple[Any, ...]] = Counter(
        (act.words.get("review"), act.who, act.words.get("decision"), act.at)
        for act in acts
        if act.command == REVIEW_DECIDE and act.outcome == OK
    )
    for (review_id, who, decision, at), count in (made - recorded).items():
        yield f"{review_id}: that {who} decided {decision} at {at} is {count} times on no record of acts"
    for (review_id, who, decision, at), count in (recorded - made).items():
        yield f"{review_id}: an act says {who} decided {decision} at {at}, {count} times more than it was"


def _decision(answer: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(answer[name] for name in ("status", "decision", "decided_by", "note", "decided_at"))


def _row(review: Decided | None) -> tuple[Any, ...] | None:
    if review is None:
        return None
    at = time_view(review.decided_at)
    return (review.status, review.decision, review.decided_by, review.note, at)


def events_keep_their_names(received: Iterable[Received], events: Iterable[Told]) -> Proof:
    """Whatever was sent as number n of an object had one id, however often and by whomever; and it is the one we hold."""
    ours = {(event.object_id, event.sequence): event.id for event in events}
    sent: dict[tuple[str, int], set[str]] = {}
    for it in received:
        if it.is_verified and it.object_id:
            sent.setdefault((it.object_id, it.sequence), set()).add(it.event_id)
    against = [
        f"number {sequence} of {name} was sent as {', '.join(sorted(ids))}, it is {ours.get((name, sequence))}"
        for (name, sequence), ids in sent.items()
        if ids != {ours.get((name, sequence))}
    ]
    return proof("an event has one id for ever", len(sent), "events that were sent", against)
