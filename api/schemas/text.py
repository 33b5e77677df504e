"""Texts, ids and metadata in requests: bounded, printable, and safe to store."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
METADATA_ENTRIES = 20

Reference = Annotated[str, Field(min_length=1, max_length=128, pattern=PRINTABLE)]
ShortText = Annotated[str, Field(min_length=1, max_length=64, pattern=PRINTABLE)]
Token = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_-]+$")]
Identifier = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z]{3}_[0-9a-z]{26}$")]


def _not_too_many(entries: dict[str, str]) -> dict[str, str]:
    if len(entries) > METADATA_ENTRIES:
        raise PydanticCustomError("invalid_parameter", "at most 20 entries")
    return entries


Metadata = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=40, pattern=PRINTABLE)],
        Annotated[str, Field(max_length=200, pattern=PRINTABLE)],
    ],
    Field(default_factory=dict, json_schema_extra={"maxProperties": METADATA_ENTRIES}),
    AfterValidator(_not_too_many),
]
