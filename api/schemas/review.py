"""Reviews in requests and answers, for operators."""

from typing import Annotated, Any, Literal

from pydantic import Field

from api.schemas.money import Input, View
from api.schemas.text import PRINTABLE, Token


class DecisionInput(Input):
    """`approve` or `decline` what risk held; `found` or `absent` for an effect nobody could prove."""

    decision: Literal["approve", "decline", "found", "absent"]
    note: Annotated[str, Field(max_length=500, pattern=PRINTABLE)] = ""
    provider_reference: Token | None = Field(
        None, description="for `found`: the provider's own id of what was found; refunds need it later"
    )


class ReviewView(View):
    id: str
    object: Literal["review"]
    payment: str
    subject: str
    merchant: str
    reason: str
    evidence: dict[str, Any]
    status: Literal["open", "decided"]
    decision: str | None
    decided_by: str | None
    note: str | None
    provider_reference: str | None
    created_at: str
    decided_at: str | None


class ReviewList(View):
    object: Literal["list"]
    data: list[ReviewView]
    has_more: bool
    next_cursor: str | None
