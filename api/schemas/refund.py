"""Refunds in requests and answers."""

from typing import Literal

from api.schemas.money import Input, MoneyInput, MoneyView, View
from api.schemas.text import Identifier, Metadata, ShortText
from corridor.domain.payment import RefundStatus


class RefundInput(Input):
    """Return money to the buyer. Without `amount`: all that is left to refund."""

    payment: Identifier
    amount: MoneyInput | None = None
    reason: ShortText | None = None
    metadata: Metadata


class RefundView(View):
    id: str
    object: Literal["refund"]
    payment: str
    status: RefundStatus
    status_reason: str | None
    amount: MoneyView
    reason: str | None
    last_sequence: int
    metadata: dict[str, str]
    created_at: str
    updated_at: str


class RefundList(View):
    object: Literal["list"]
    data: list[RefundView]
    has_more: bool
    next_cursor: str | None
