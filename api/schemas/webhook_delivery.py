"""Webhook deliveries in answers."""

from typing import Literal

from api.schemas.money import View


class DeliveryView(View):
    """One event on its way to one endpoint. Without a status code, `last_error` says why there was no answer."""

    id: str
    object: Literal["webhook_delivery"]
    endpoint: str
    event: str
    status: Literal["pending", "delivered", "failed"]
    attempts: int
    last_status_code: int | None
    last_error: str | None
    next_attempt_at: str | None
    created_at: str
    delivered_at: str | None


class DeliveryList(View):
    object: Literal["list"]
    data: list[DeliveryView]
    has_more: bool
    next_cursor: str | None
