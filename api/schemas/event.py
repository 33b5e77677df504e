"""Events in answers: the same form in lists, streams and webhooks."""

from typing import Any, Literal

from api.schemas.money import View


class SubjectView(View):
    type: str
    id: str


class EventView(View):
    """`sequence` counts per object without gaps; `position` orders the merchant's feed (null until placed)."""

    id: str
    object: Literal["event"]
    type: str
    timestamp: str
    merchant: str
    subject: SubjectView
    sequence: int
    position: int | None
    data: dict[str, Any]
    previous: dict[str, Any]


class EventList(View):
    object: Literal["list"]
    data: list[EventView]
    has_more: bool
    next_cursor: str | None
