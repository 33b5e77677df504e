"""Payments in requests and answers."""

import hashlib
from typing import Literal

from pydantic import Field

from api.auth import Merchant
from api.schemas.country import Country
from api.schemas.money import Currency, Input, MoneyInput, MoneyView, View
from api.schemas.text import Identifier, Metadata, Reference, Token
from corridor.domain.accepted import Asked, NewPayment
from corridor.domain.outcome import Decline, NextAction
from corridor.domain.payment import CaptureMethod, Status


class CardInput(Input):
    """A provider's token for a card; card numbers are never accepted. `fingerprint` names the card, not the token."""

    type: Literal["card"]
    provider_token: Token
    fingerprint: Token | None = Field(
        None, description="the same for every token of one card; velocity limits count by it"
    )

    def instrument(self) -> str:
        """What velocity limits count by; hashed, because tokens are credentials of a kind."""
        name = self.fingerprint or self.provider_token
        return hashlib.sha256(f"{self.type}:{name}".encode()).hexdigest()[:48]


class BuyerInput(Input):
    """Where the buyer's money comes from, and your own reference for the buyer: not a name, not an address."""

    country: Country
    reference: Reference | None = None


class SlippageInput(Input):
    """What to do when a locked rate ran out before execution: `requote` within `max_bps`, else `reject`."""

    max_bps: int = Field(50, ge=0, le=1000)
    policy: Literal["requote", "reject"] = "requote"


class PaymentInput(Input):
    """Collect `amount` from a buyer."""

    amount: MoneyInput
    payment_method: CardInput
    buyer: BuyerInput
    settle_in: Currency | None = Field(None, description="default: the merchant's settlement currency")
    capture: Literal["automatic", "manual"] = "automatic"
    quote: Identifier | None = None
    slippage: SlippageInput = SlippageInput()
    merchant_reference: Reference | None = None
    return_url: str | None = Field(None, max_length=2048, pattern=r"^https?://[^\s\x00-\x20\x7f]+$")
    metadata: Metadata
    wait_seconds: int | None = Field(None, ge=1, le=30, description="wait this long for an answer, then 202")

    def order(self, payment_id: str, merchant: Merchant, asked: Asked) -> NewPayment:
        """The payment to accept; what is not in the request comes from the merchant."""
        return NewPayment(
            id=payment_id,
            merchant_id=merchant.id,
            amount=self.amount.money(),
            settle_currency=self.settle_in or merchant.settle_currency,
            source_country=self.buyer.country,
            destination_country=merchant.country,
            payment_token=self.payment_method.provider_token,
            instrument=self.payment_method.instrument(),
            capture_method=CaptureMethod(self.capture),
            payer_reference=self.buyer.reference,
            merchant_reference=self.merchant_reference,
            return_url=self.return_url,
            quote_id=self.quote,
            slippage_max_bps=self.slippage.max_bps,
            slippage_policy=self.slippage.policy,
            metadata=self.metadata,
            asked=asked,
        )


class CaptureInput(Input):
    """Without `amount`: everything that was authorised."""

    amount: MoneyInput | None = None


class NothingInput(Input):
    """No members."""


class SettlementView(View):
    currency: str
    amount: MoneyView | None


class DeadlinesView(View):
    authorization_expires_at: str | None
    settle_by: str | None


class PaymentView(View):
    """Clients treat a status that is not listed as `processing`."""

    id: str
    object: Literal["payment"]
    status: Status
    status_reason: str | None
    amount: MoneyView
    amount_captured: MoneyView
    amount_refunded: MoneyView
    refundable: MoneyView
    settlement: SettlementView
    corridor: str
    capture_method: CaptureMethod
    provider: str | None
    quote: str | None
    next_action: NextAction | None
    decline: Decline | None
    deadlines: DeadlinesView
    last_sequence: int
    merchant_reference: str | None
    metadata: dict[str, str]
    created_at: str
    updated_at: str


class PaymentList(View):
    object: Literal["list"]
    data: list[PaymentView]
    has_more: bool
    next_cursor: str | None
