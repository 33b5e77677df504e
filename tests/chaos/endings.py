"""How orders ended, against what their stories say: a reason needs a story that explains it, and good orders succeed."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set

from api.cli.audit.evidence import Paid
from api.cli.audit.proofs import Proof, proof
from corridor.domain.payment import Status, StatusReason
from tests.chaos.arrivals import CLOSING, Arrival, Story

_CHALLENGED = {
    Story.CHALLENGE_COMPLETED, Story.CHALLENGE_FAILED, Story.CHALLENGE_ABANDONED, Story.CANCELED_AT_THE_BANK,
}  # fmt: skip
_MANUAL = {Story.CAPTURED, Story.CAPTURED_IN_PART, Story.CANCELED, Story.CAPTURE_RACING_CANCEL}
_MADE_BY: Mapping[StatusReason, Set[Story]] = {
    StatusReason.DECLINED_BY_PROVIDER: {Story.DECLINED, *_CHALLENGED},
    StatusReason.DECLINED_BY_REVIEWER: {Story.REVIEW_DECLINED, Story.REVIEW_DECIDED_TWICE},
    StatusReason.CANCELED_BY_MERCHANT: {*_CHALLENGED, *_MANUAL},
    StatusReason.COMPENSATION_STUCK: {*_CHALLENGED, *_MANUAL},
    StatusReason.AUTHENTICATION_ABANDONED: _CHALLENGED,
    StatusReason.AUTHORIZATION_EXPIRED: _MANUAL,
}
"""The stories that may end so. The buyer's window at the bank is short here, so a challenge may be met too late; what was
not captured after all is canceled, an undo may go through a person's hands, and one that is finished by a resumed
payment does not know any more who had asked for it."""
_OUTAGES = {
    StatusReason.NOT_SENT,
    StatusReason.RATE_UNAVAILABLE,
    StatusReason.SLIPPAGE_EXCEEDED,
    StatusReason.QUOTE_UNUSABLE,
}
"""What any order may end by while something it needs is at fault: told, never an error, and bounded by share below."""
_GOOD = {
    Story.BOUGHT, Story.SENT_AT_ONCE, Story.OTHER_BODY, Story.QUOTED, Story.REFUNDED, Story.REFUNDED_IN_PART,
    Story.REFUNDS_RACING, Story.REVIEW_APPROVED,
}  # fmt: skip
"""Stories in which everybody wants the money to move, and nobody is asked to say no."""
_SUCCEEDED = (Status.CAPTURED, Status.SETTLED)
FEW = 5
SHARE_LOST_PERCENT = 10
"""Of good orders without a fault of their own. They still meet what others are struck by: a process killed every two or
three seconds, edges cut, both liquidity houses silent at once for longer than a quote is asked for. Half a soak lost three
in a hundred to that. In a small run a handful is a large share, so `FEW` are always let pass."""


def endings_are_explained(arrivals: Iterable[Arrival], payments: Sequence[Paid]) -> Proof:
    """Whatever did not succeed ended for a reason that its own story gives, or that an outage gives to anybody."""
    stories = {it.id: it.story for it in arrivals}
    against = []
    for payment in payments:
        story = stories.get(payment.reference, Story.BOUGHT)  # the closing orders are in no plan
        if Status(payment.status).is_terminal and payment.status != Status.SETTLED:
            reason = StatusReason(payment.reason) if payment.reason else None
            if reason not in _OUTAGES and story not in _MADE_BY.get(reason or StatusReason.NO_ROUTE, ()):
                against.append(
                    f"{payment.id} ({payment.reference}, {story}) {payment.status}: {payment.reason}"
                )
    notes = [f"{count} {what}" for what, count in sorted(by_status_and_reason(payments).items())]
    return proof("no order ended for a reason that nothing gives", len(payments), "orders", against, notes)


def good_orders_succeed(
    arrivals: Iterable[Arrival], payments: Sequence[Paid], clocks_right_at: float | None
) -> Proof:
    """What was placed after the faults succeeded, all of it; and of what nothing was aimed at, all but a share.

    By a worker's clock that is wrong every offer of a rate has run out, or runs out too late: an order that needs a rate
    counts only if it was placed when the last such clock had been set right, `clocks_right_at` seconds after the begin.
    """
    planned = {it.id: it for it in arrivals}
    closing = [it for it in payments if it.reference.startswith(f"{CLOSING}-")]
    spared = [
        it
        for it in payments
        if it.reference in planned and _is_spared(planned[it.reference], it, clocks_right_at or 0.0)
    ]
    against = [
        f"{it.id} ({it.reference}) was placed after the faults, and is {it.status}: {it.reason}"
        for it in _lost(closing)
    ]
    lost = _lost(spared)
    reasons = ", ".join(f"{count} {what}" for what, count in sorted(by_status_and_reason(lost).items()))
    if len(lost) > FEW and len(lost) * 100 > len(spared) * SHARE_LOST_PERCENT:
        against.append(f"{len(lost)} of {len(spared)} that nothing was aimed at did not succeed: {reasons}")
    notes = (
        [f"{len(lost)} of {len(spared)} that nothing was aimed at did not succeed: {reasons}"] if lost else []
    )
    claim = "good orders succeed: all after the faults, and nearly all that no fault was aimed at"
    return proof(claim, len(closing) + len(spared), "good orders", against, notes)


def by_status_and_reason(payments: Iterable[Paid]) -> Counter[str]:
    return Counter(f"{it.status}{f' {it.reason}' if it.reason else ''}" for it in payments)


def _is_spared(arrival: Arrival, payment: Paid, clocks_right_at: float) -> bool:
    sold, _, bought = payment.corridor.partition(">")
    needs_rate = sold.rpartition("-")[2] != bought.rpartition("-")[2]
    in_time = arrival.at_seconds >= clocks_right_at or not needs_rate
    return arrival.story in _GOOD and not arrival.fault and in_time


def _lost(payments: Iterable[Paid]) -> list[Paid]:
    return [it for it in payments if it.status not in _SUCCEEDED]
