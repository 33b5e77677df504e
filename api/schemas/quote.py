"""Quotes in requests and answers; rates are decimal strings."""

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from api.schemas.money import Currency, Input, MoneyInput, MoneyView, View
from corridor.domain.quote import QuoteStatus


class QuoteInput(Input):
    """Ask for a rate at which `sell` buys `buy_currency`, held for `lock_seconds`."""

    sell: MoneyInput
    buy_currency: Currency
    lock_seconds: int = Field(60, ge=5, le=86_400)

    @model_validator(mode="after")
    def _two_currencies(self) -> Self:
        if self.sell.currency == self.buy_currency:
            raise PydanticCustomError("invalid_parameter", "a quote is between two currencies")
        return self


class QuoteView(View):
    object: Literal["quote"]
    id: str
    status: QuoteStatus
    sell: MoneyView
    buy: MoneyView
    buy_at_mid: MoneyView
    spread: MoneyView
    spread_bps: int
    pair: str
    client_rate: str
    mid_rate: str
    mid_source: str
    mid_as_of: str
    liquidity_provider: str
    lock_seconds: int
    valid_from: str
    expires_at: str
