"""What is sent to workflows and what they answer: start inputs, updates, signals."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from activities.contracts import EffectPlan, Message
from corridor.domain.accepted import NewPayment, NewRefund
from corridor.domain.money import Money
from corridor.domain.payment import RefundStatus, Status, StatusReason


class PaymentStart(Message):
    """Everything the workflow needs before its first step; the rest is in the platform database."""

    payment_id: str
    merchant_id: str
    amount: Money
    settle_currency: str
    corridor: str
    settle_within_seconds: int
    action_window_seconds: int
    """How long a buyer may take for a challenge before the attempt is abandoned."""
    accepted: NewPayment | None = None
    """All that the payment's row was made of: read by nobody here, it is the second copy of what was accepted."""
    accepted_at: datetime | None = None
    resume: "Resume | None" = None


class Resume(Message):
    """The last durable business state of a payment, rebuilt from the database after its history was lost.

    `plan` is the effect whose fate decides what comes next; it is looked up before anything new is done.
    """

    status: Status
    sequence: int
    plan: EffectPlan | None = None
    undo: EffectPlan | None = None
    """An undo that was declared and is not proven: carried to its end before anything else."""
    operation_numbers: dict[str, int] = Field(default_factory=dict)
    review_id: str | None = None
    review_reason: StatusReason | None = None
    approved_review: str | None = None
    """The risk review a person approved; it is not asked again."""
    authorization_expires_at: datetime | None = None
    settle_by: datetime | None = None
    action_until: datetime | None = None


class PaymentAnswer(Message):
    """The early answer: where the payment stands when the waiting caller may go on."""

    status: Status
    sequence: int


class CaptureCommand(Message):
    """Capture `amount` (None: all that was authorised). The update id is the idempotency key's, so repeats join."""

    amount: Money | None = None


class CancelCommand(Message):
    requested_by: Literal["merchant", "operator"] = "merchant"


class ReviewCommand(Message):
    review_id: str
    decision: Literal["approve", "decline", "found", "absent"]
    decided_by: str
    note: str = ""
    provider_reference: str | None = None
    """For `found`: the provider's own id of what was found. Without it nothing can be refunded later."""


class CommandDone(Message):
    """`refused` is a stable code when the world had moved on; nothing was changed then."""

    status: Status
    sequence: int
    refused: str | None = None
    detail: str = ""


class ProviderHint(Message):
    """A verified webhook says something about us; the workflow looks, the webhook itself proves nothing."""

    provider_event_id: str
    effect_key: str | None = None


class SettlementFact(Message):
    """A row of the provider's settlement report belongs to this payment."""

    provider: str
    line_id: str


class RefundStart(Message):
    refund_id: str
    payment_id: str
    merchant_id: str
    amount: Money
    accepted: NewRefund | None = None
    accepted_at: datetime | None = None
    resume: bool = False


class RefundAnswer(Message):
    status: RefundStatus
    refused: str | None = None


class SettlementStart(Message):
    provider: str


class DeliveryStart(Message):
    delivery_id: str
