"""The problem document as OpenAPI shows it, and the declaration of problems on a route."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.problems import KINDS, MEDIA_TYPE

EVERYWHERE = (400, 401, 403, 404, 413, 415, 429, 500, 503)


class FieldErrorView(BaseModel):
    pointer: str
    code: str
    detail: str


class ProblemView(BaseModel):
    """RFC 9457 problem; `code` is stable, `detail` is for people. Some codes add members of their own."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    doc_url: str
    errors: list[FieldErrorView]
    retry: Literal["never", "same_key", "new_key", "after"] = Field(
        description="`same_key`: repeat this request as it is. `new_key`: another request is needed, under a key of its own. "
        "`after`: what it waits for must change first. `never`: no repeat ends otherwise"
    )
    money_state: Literal["not_moved", "moved", "unknown"] = Field(
        description="`unknown`: this request, or an earlier one that it met, may have moved money; nobody can say yet"
    )


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route: its own problem statuses and those every route can give."""
    return {status: _declared(status) for status in sorted({*EVERYWHERE, *statuses})}


def _declared(status: int) -> dict[str, Any]:
    codes = ", ".join(f"`{code}`" for code, kind in KINDS.items() if kind.status == status)
    schema = {"$ref": "#/components/schemas/ProblemView"}
    return {"description": f"One of {codes}", "content": {MEDIA_TYPE: {"schema": schema}}}
