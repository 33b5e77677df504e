"""What the API accepted, as values: an order to collect and a wish to refund, each with the request that made it.

A row is made of one of these and a workflow is started with it, so either of the two can be made again from the other.
"""

from pydantic import Field

from corridor.domain.money import Money
from corridor.domain.outcome import Frozen
from corridor.domain.payment import CaptureMethod


class Asked(Frozen):
    """The request behind it. A merchant who repeats it finds what it made, also after the database was lost."""

    idempotency_key: str
    fingerprint: str
    """SHA-256 of the canonical request: the same key with another fingerprint is another request."""


class NewPayment(Frozen):
    """A validated order to collect `amount` for a merchant."""

    id: str
    merchant_id: str
    amount: Money
    settle_currency: str
    source_country: str
    destination_country: str
    payment_token: str
    instrument: str
    capture_method: CaptureMethod = CaptureMethod.AUTOMATIC
    payer_reference: str | None = None
    merchant_reference: str | None = None
    return_url: str | None = None
    quote_id: str | None = None
    slippage_max_bps: int = 50
    slippage_policy: str = "requote"
    metadata: dict[str, str] = Field(default_factory=dict)
    asked: Asked | None = None

    @property
    def corridor(self) -> str:
        """`DE-EUR>CN-CNY`: (source country, currency) → (destination country, currency)."""
        return (
            f"{self.source_country}-{self.amount.currency}>{self.destination_country}-{self.settle_currency}"
        )


class NewRefund(Frozen):
    """A validated wish to return `amount` of a payment to its buyer."""

    id: str
    payment_id: str
    merchant_id: str
    amount: Money
    reason: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    asked: Asked | None = None
