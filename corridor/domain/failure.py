"""Two kinds of wrong: `Refused` is an expected answer to a caller; `InvariantBroken` is our own bug.

`Refused` carries a code of the closed enum `Refusal`; the API maps each code to one problem+json type,
and activities map it to one ApplicationError type. Whoever adds a code adds it to both tables, and the
test that enumerates `Refusal` fails until then.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Never


class Refusal(StrEnum):
    """Why a request was refused. Each is final for this request: nothing was changed by it."""

    INVALID_PARAMETER = "invalid_parameter"
    INVALID_CURRENCY = "invalid_currency"
    AMOUNT_OUT_OF_RANGE = "amount_out_of_range"
    NOT_FOUND = "not_found"
    STATE_CONFLICT = "state_conflict"
    OUTCOME_UNKNOWN = "outcome_unknown"
    REVIEW_ALREADY_DECIDED = "review_already_decided"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    IDEMPOTENCY_IN_FLIGHT = "idempotency_in_flight"
    QUOTE_EXPIRED = "quote_expired"
    QUOTE_ALREADY_USED = "quote_already_used"
    QUOTE_MISMATCH = "quote_currency_mismatch"
    SLIPPAGE_EXCEEDED = "slippage_exceeded"
    RATE_UNAVAILABLE = "rate_unavailable"
    CORRIDOR_NOT_ENABLED = "corridor_not_enabled"
    NO_ROUTE = "no_route"
    LIMIT_EXCEEDED = "limit_exceeded"
    REFUND_EXCEEDS_CAPTURED = "refund_exceeds_captured"
    CAPTURE_EXCEEDS_AUTHORIZED = "capture_exceeds_authorized"
    AUTHORIZATION_EXPIRED = "authorization_expired"
    INSUFFICIENT_AVAILABLE = "insufficient_available"
    WEBHOOK_URL_NOT_ALLOWED = "webhook_url_not_allowed"


@dataclass(eq=False)
class Refused(Exception):
    """A request that cannot be carried out; nothing was changed. `facts` are safe to show the caller.

    Not frozen: Python itself writes `__traceback__` while an exception passes a context manager.
    """

    code: Refusal
    detail: str
    facts: dict[str, str | int | list[str]] = field(default_factory=dict)
    pointer: str | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class InvariantBroken(Exception):
    """Our own bug. Never caught in workflow code: it parks the workflow until a fixed build is deployed."""


def broken(claim: str) -> Never:
    """Raise `InvariantBroken`; for branches that cannot be reached."""
    raise InvariantBroken(claim)


def invariant(holds: bool, claim: str) -> None:
    """Raise `InvariantBroken(claim)` unless `holds`. Unlike `assert` it is never compiled away."""
    if not holds:
        raise InvariantBroken(claim)
