"""What a command hears back: who may ask what when, and the refusal that fits where a payment ended up."""

from collections.abc import Callable
from typing import assert_never

from temporalio.exceptions import ApplicationError

from corridor.domain.failure import Refusal, Refused
from corridor.domain.payment import Status, StatusReason
from workflows.messages import ReviewCommand


def refuse_unless(check: Callable[[], None]) -> None:
    """Run a domain check inside a validator; a refusal rejects the update before it enters the history."""
    try:
        check()
    except Refused as refused:
        raise ApplicationError(refused.detail, refused.facts, type=refused.code) from None


def check_decision(command: ReviewCommand, open_review: str | None, reason: StatusReason | None) -> None:
    """Reject a decision on another review than the open one, or one that does not answer its question."""
    if command.review_id != open_review:
        raise ApplicationError("this review is not open any more", type=Refusal.REVIEW_ALREADY_DECIDED)
    if command.decision not in decisions_for(reason):
        allowed = ", ".join(sorted(decisions_for(reason)))
        raise ApplicationError(f"this review is answered by: {allowed}", type=Refusal.INVALID_PARAMETER)


def decisions_for(reason: StatusReason | None) -> frozenset[str]:
    """The answers a review takes: a judgement for risk, a finding for an unknown outcome."""
    if reason is StatusReason.RISK_REVIEW:
        return frozenset({"approve", "decline"})
    if reason is StatusReason.COMPENSATION_STUCK:
        return frozenset({"approve"})
    return frozenset({"found", "absent"})


def refusal_of(status: Status, no_rate: StatusReason | None) -> Refusal:
    """The code for a command that was accepted and did not succeed, by the status the payment has now.

    `no_rate` is why a lock that ran out was not renewed, where that is what ended the payment.
    """
    match status:
        case Status.REQUIRES_REVIEW:
            return Refusal.OUTCOME_UNKNOWN
        case Status.EXPIRED:
            return Refusal.AUTHORIZATION_EXPIRED
        case Status.FAILED if no_rate is not None:
            unavailable = no_rate is StatusReason.RATE_UNAVAILABLE
            return Refusal.RATE_UNAVAILABLE if unavailable else Refusal.SLIPPAGE_EXCEEDED
        case (
            Status.PROCESSING
            | Status.REQUIRES_ACTION
            | Status.AUTHORIZED
            | Status.CAPTURED
            | Status.SETTLED
            | Status.FAILED
            | Status.CANCELED
        ):
            return Refusal.STATE_CONFLICT
    assert_never(status)
