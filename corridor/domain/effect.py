"""An effect: one change in the outside world, declared before the call and named by its effect key."""

from enum import StrEnum

from corridor.domain.failure import invariant
from corridor.domain.outcome import Frozen, Outcome


class Operation(StrEnum):
    """What a provider is asked to do. `sale` is authorise and capture in one call."""

    AUTHORISE = "authorise"
    SALE = "sale"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"


COLLECTING = (Operation.AUTHORISE, Operation.SALE, Operation.CAPTURE)
"""What holds or takes the buyer's money."""


class EffectState(StrEnum):
    """`declared` before the call, so bytes may have left at any time since; then what is known of it."""

    DECLARED = "declared"
    ACTION_REQUIRED = "action_required"
    PENDING = "pending"
    UNKNOWN = "unknown"
    APPROVED = "approved"
    DECLINED = "declined"
    NOT_SENT = "not_sent"

    @property
    def is_final(self) -> bool:
        return self in (EffectState.APPROVED, EffectState.DECLINED, EffectState.NOT_SENT)

    @staticmethod
    def of(outcome: Outcome) -> "EffectState":
        return EffectState(outcome.value)


def effect_key(object_id: str, operation: Operation, number: int) -> str:
    """`pay_…:capture:1`: from business ids only, so a retry, a reset or a resume meets the same guard."""
    invariant(number >= 1, "operations are numbered from 1")
    return f"{object_id}:{operation}:{number}"


def effect_number(key: str) -> int:
    """Which declaration of its operation an effect is. Moments of declaring come from different clocks; this does not."""
    return int(key.rpartition(":")[2])


class FrozenRequest(Frozen):
    """The bytes of a provider call, fixed when the effect is declared; a repeat sends exactly these."""

    method: str
    path: str
    body: str
    content_type: str
