"""Lists: signed cursors bound to their filters, so that one list's cursor never pages through another."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import Query
from pydantic import SecretStr

from api.problems import FieldError, Problem
from corridor.storage.records import Json

MAX_CURSOR = 512
_TAG_BYTES = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Limit = Annotated[int, Query(ge=1, le=100)]
StartingAfter = Annotated[
    str | None, Query(max_length=MAX_CURSOR, description="`next_cursor` of the page before")
]

Position = tuple[datetime, str]
"""The last row's (created_at, id)."""


class Cursors:
    """Writes and reads cursors. The key is derived from the pepper: cursors are no secret, they only stay whole."""

    def __init__(self, pepper: SecretStr) -> None:
        self._key = hmac.digest(pepper.get_secret_value().encode(), b"corridor.cursor", "sha256")

    def write(self, position: Position, filters: Mapping[str, Any]) -> str:
        moment, last_id = position
        # Whole microseconds: a float of seconds would lose some and skip or repeat a row.
        payload = json.dumps([(moment - _EPOCH) // timedelta(microseconds=1), last_id]).encode()
        return base64.urlsafe_b64encode(self._tag(payload, filters) + payload).decode().rstrip("=")

    def read(self, text: str | None, filters: Mapping[str, Any]) -> Position | None:
        """Raises `Problem(invalid_cursor)` for one that was changed or belongs to other filters."""
        if text is None:
            return None
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raise _invalid() from None
        tag, payload = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(payload, filters)):
            raise _invalid()
        microseconds, last_id = json.loads(payload)
        return _EPOCH + timedelta(microseconds=microseconds), last_id

    def _tag(self, payload: bytes, filters: Mapping[str, Any]) -> bytes:
        bound = json.dumps(filters, sort_keys=True).encode()
        return hmac.digest(self._key, hashlib.sha256(bound).digest() + payload, "sha256")[:_TAG_BYTES]


def listing(data: Sequence[Json], has_more: bool, next_cursor: str | None) -> Json:
    return {"object": "list", "data": list(data), "has_more": has_more, "next_cursor": next_cursor}


def _invalid() -> Problem:
    detail = "start the list again without starting_after"
    return Problem("invalid_cursor", detail, [FieldError("query/starting_after", "invalid_cursor", detail)])
