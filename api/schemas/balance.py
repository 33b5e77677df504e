"""Balances in answers."""

from typing import Literal

from api.schemas.money import MoneyView, View


class BalanceView(View):
    """What we owe the merchant in one currency. `reserved` is set aside for refunds that are not proven yet."""

    currency: str
    pending: MoneyView
    available: MoneyView
    reserved: MoneyView


class BalanceList(View):
    object: Literal["list"]
    data: list[BalanceView]
    has_more: bool
    next_cursor: str | None
