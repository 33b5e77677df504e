"""Webhook endpoints in requests and answers."""

from typing import Annotated, Literal

from pydantic import Field

from api.schemas.money import Input, View

EventType = Annotated[str, Field(max_length=48, pattern=r"^[a-z_]+\.[a-z_]+$", examples=["payment.captured"])]
EventTypes = Annotated[list[EventType], Field(max_length=50, description="empty: all types")]
Url = Annotated[str, Field(min_length=1, max_length=2048)]


class EndpointInput(Input):
    url: Url
    events: EventTypes = Field(default_factory=list)


class EndpointChange(Input):
    """Only what is sent changes."""

    url: Url | None = None
    events: EventTypes | None = None
    enabled: bool | None = None


class EndpointView(View):
    id: str
    object: Literal["webhook_endpoint"]
    url: str
    events: list[str]
    enabled: bool
    disabled_reason: str | None
    version: int
    created_at: str


class NewEndpointView(EndpointView):
    """`secret` is shown this once (and to repeats of the same request)."""

    secret: str


class EndpointList(View):
    object: Literal["list"]
    data: list[EndpointView]
    has_more: bool
    next_cursor: str | None
