"""The payment's state machine: a closed table of transitions, and `advance()`, the only way along it."""

from enum import StrEnum

from corridor.domain.effect import Operation
from corridor.domain.failure import Refusal, Refused, broken, invariant
from corridor.domain.outcome import Outcome


class Status(StrEnum):
    PROCESSING = "processing"
    REQUIRES_ACTION = "requires_action"
    REQUIRES_REVIEW = "requires_review"
    AUTHORIZED = "authorized"
    CAPTURED = "captured"
    SETTLED = "settled"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        return not TRANSITIONS[self]


class StatusReason(StrEnum):
    """Why a payment is where it is; reads as a fact."""

    DECLINED_BY_PROVIDER = "declined_by_provider"
    DECLINED_BY_RISK = "declined_by_risk"
    DECLINED_BY_REVIEWER = "declined_by_reviewer"
    RISK_REVIEW = "risk_review"
    OUTCOME_UNKNOWN = "outcome_unknown"
    COMPENSATION_STUCK = "compensation_stuck"
    AMOUNT_MISMATCH = "amount_mismatch"
    AUTHENTICATION_ABANDONED = "authentication_abandoned"
    AUTHORIZATION_EXPIRED = "authorization_expired"
    CANCELED_BY_MERCHANT = "canceled_by_merchant"
    CANCELED_BY_OPERATOR = "canceled_by_operator"
    SLIPPAGE_EXCEEDED = "slippage_exceeded"
    RATE_UNAVAILABLE = "rate_unavailable"
    QUOTE_UNUSABLE = "quote_unusable"
    NO_ROUTE = "no_route"
    NOT_SENT = "not_sent"


_S = Status

TRANSITIONS: dict[Status, frozenset[Status]] = {
    _S.PROCESSING: frozenset(
        {
            _S.REQUIRES_ACTION,
            _S.REQUIRES_REVIEW,
            _S.AUTHORIZED,
            _S.CAPTURED,
            _S.FAILED,
            _S.CANCELED,
            _S.EXPIRED,
        }
    ),
    _S.REQUIRES_ACTION: frozenset(
        {_S.PROCESSING, _S.REQUIRES_REVIEW, _S.AUTHORIZED, _S.CAPTURED, _S.FAILED, _S.CANCELED, _S.EXPIRED}
    ),
    _S.REQUIRES_REVIEW: frozenset(
        {_S.PROCESSING, _S.REQUIRES_ACTION, _S.AUTHORIZED, _S.CAPTURED, _S.FAILED, _S.CANCELED, _S.EXPIRED}
    ),
    _S.AUTHORIZED: frozenset({_S.REQUIRES_REVIEW, _S.CAPTURED, _S.FAILED, _S.CANCELED, _S.EXPIRED}),
    _S.CAPTURED: frozenset({_S.SETTLED}),
    _S.SETTLED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELED: frozenset(),
    _S.EXPIRED: frozenset(),
}
"""requires_action → processing: the buyer came back. requires_review → processing: a person let it go on."""


def advance(current: Status, target: Status) -> Status:
    """`target`, if the table allows the step; anything else is our bug (`InvariantBroken`)."""
    invariant(target in TRANSITIONS[current], f"a payment never goes from {current} to {target}")
    return target


def status_after(operation: Operation, outcome: Outcome) -> Status | None:
    """Where a proven or waiting outcome of `operation` puts the payment; None means it stays where it is.

    `unknown` and `pending` never move a payment by themselves: the workflow looks the effect up first.
    """
    if outcome in (Outcome.UNKNOWN, Outcome.PENDING, Outcome.NOT_SENT):
        return None
    match operation, outcome:
        case Operation.AUTHORISE, Outcome.APPROVED:
            return Status.AUTHORIZED
        case ((Operation.SALE | Operation.CAPTURE), Outcome.APPROVED):
            return Status.CAPTURED
        case ((Operation.AUTHORISE | Operation.SALE), Outcome.ACTION_REQUIRED):
            return Status.REQUIRES_ACTION
        case ((Operation.AUTHORISE | Operation.SALE), Outcome.DECLINED):
            return Status.FAILED
        case ((Operation.VOID | Operation.REFUND | Operation.CAPTURE), _):
            return None
    broken(f"no status for {operation} {outcome}")


class CaptureMethod(StrEnum):
    AUTOMATIC = "automatic"
    MANUAL = "manual"


class RefundStatus(StrEnum):
    PROCESSING = "processing"
    REQUIRES_REVIEW = "requires_review"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


REFUND_TRANSITIONS: dict[RefundStatus, frozenset[RefundStatus]] = {
    RefundStatus.PROCESSING: frozenset(
        {RefundStatus.REQUIRES_REVIEW, RefundStatus.SUCCEEDED, RefundStatus.FAILED}
    ),
    RefundStatus.REQUIRES_REVIEW: frozenset(
        {RefundStatus.PROCESSING, RefundStatus.SUCCEEDED, RefundStatus.FAILED}
    ),
    RefundStatus.SUCCEEDED: frozenset({RefundStatus.FAILED}),
    RefundStatus.FAILED: frozenset(),
}
"""succeeded → failed exists: a card refund may come back days later (docs.stripe.com/refunds#failed-refunds)."""


def require(current: Status, allowed: frozenset[Status], command: str) -> None:
    """Refuse a merchant's command that the payment's status does not allow."""
    if current not in allowed:
        raise Refused(
            Refusal.STATE_CONFLICT,
            f"{command} is not possible while the payment is {current}; nothing was changed",
            {"current_status": str(current), "allowed": sorted(map(str, allowed))},
        )


CAPTURABLE = frozenset({_S.AUTHORIZED})
CANCELABLE = frozenset({_S.PROCESSING, _S.REQUIRES_ACTION, _S.REQUIRES_REVIEW, _S.AUTHORIZED})
REFUNDABLE = frozenset({_S.CAPTURED, _S.SETTLED})
