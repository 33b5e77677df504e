"""What a provider call led to. Only an explicit answer is final; everything else waits for evidence."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from corridor.domain.money import Money


class Outcome(StrEnum):
    APPROVED = "approved"
    DECLINED = "declined"
    ACTION_REQUIRED = "action_required"
    PENDING = "pending"
    UNKNOWN = "unknown"
    NOT_SENT = "not_sent"

    @property
    def is_proven(self) -> bool:
        """Proven yes or proven no: the effect's fate cannot change any more by this call."""
        return self in (Outcome.APPROVED, Outcome.DECLINED, Outcome.NOT_SENT)


class DeclineCategory(StrEnum):
    """May a retry differ? soft: later, other funds or another route may work. hard: this instrument will not.

    fraud: stop, tell the buyer nothing specific, no cascade. technical: our request or set-up is wrong.
    authentication: the buyer failed or abandoned the challenge.
    """

    SOFT = "soft"
    HARD = "hard"
    FRAUD = "fraud"
    TECHNICAL = "technical"
    AUTHENTICATION = "authentication"


class Frozen(BaseModel):
    """Base of every value that crosses a boundary: immutable, and unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Decline(Frozen):
    """Why the provider said no. `provider_code` is the provider's own word, kept for operators."""

    category: DeclineCategory
    reason: str
    provider_code: str


class NextAction(Frozen):
    """What the buyer must do before the payment can go on; `type` is `redirect` today."""

    type: str
    url: str


class Evidence(Frozen):
    """What was seen of one exchange with a provider; no body, no personal data."""

    seen_at: datetime
    http_status: int | None = None
    request_id: str | None = None
    provider_status: str | None = None
    note: str = ""
    replayed: bool = False
    """Answered from the provider's memory of the key, so the first call under it is over and every repeat ends so."""


class ProviderAnswer(Frozen):
    """One provider call, judged. `amount` is what the provider says it moved, to be compared with the request."""

    outcome: Outcome
    evidence: Evidence
    provider_reference: str | None = None
    amount: Money | None = None
    decline: Decline | None = None
    action: NextAction | None = None
    authorization_expires_at: datetime | None = None
    repeat_is_safe: bool = False
    """For `unknown` and `not_sent`: the same bytes with the same key may be sent again under the contract."""
    retry_after_seconds: int | None = None
