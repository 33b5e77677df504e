"""The proofs about what was promised: to the shop by an answer, to the buyer by a limit, to everybody by the state machine.

Pure, like the others: records in, counterexamples out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set

from api.cli.audit.evidence import Effect, Movement, Paid, Told
from api.cli.audit.proofs import Proof, proof
from corridor.domain.payment import REFUND_TRANSITIONS, TRANSITIONS, RefundStatus, Status, StatusReason

_TABLES: Mapping[str, tuple[str, Mapping[str, Set[str]]]] = {
    "pay_": (Status.PROCESSING, {str(a): set(map(str, b)) for a, b in TRANSITIONS.items()}),
    "rfd_": (RefundStatus.PROCESSING, {str(a): set(map(str, b)) for a, b in REFUND_TRANSITIONS.items()}),
}
_BY_PROVIDER = {StatusReason.DECLINED_BY_PROVIDER: "declined", StatusReason.NOT_SENT: "not_sent"}
_BY_PERSON_OR_RULE = (StatusReason.DECLINED_BY_RISK, StatusReason.DECLINED_BY_REVIEWER)
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
