"""A JSON document from a provider, read without trust: wrong types read as absent, numbers are never floats."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Never

_WORD = re.compile(r"[A-Za-z0-9_.:\-]{1,255}")


def parse(body: bytes) -> "Document | None":
    """The JSON object in `body`, or None when there is none; fractions are `Decimal` from their text."""
    try:
        value = json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, ArithmeticError, RecursionError):
        # Bad UTF-8, bad JSON, an exponent beyond Decimal, nesting made to exhaust the stack: all unreadable.
        return None
    return Document(value) if isinstance(value, dict) else None


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


class Document:
    """A JSON object. Every accessor answers None (or nothing) for a key that is missing or of another type."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        self._value = value

    def __bool__(self) -> bool:
        return bool(self._value)

    def word(self, key: str) -> str | None:
        """A code or identifier: what fits in a log and holds no prose, hence no personal data."""
        value = self._value.get(key)
        return value if isinstance(value, str) and _WORD.fullmatch(value) else None

    def text(self, key: str) -> str | None:
        value = self._value.get(key)
        return value if isinstance(value, str) else None

    def integer(self, key: str) -> int | None:
        """A whole JSON number; `true` is not 1, and 1.0 is not an amount."""
        value = self._value.get(key)
        return value if type(value) is int else None

    def decimal(self, key: str) -> Decimal | None:
        value = self._value.get(key)
        return Decimal(value) if type(value) is int else value if isinstance(value, Decimal) else None

    def flag(self, key: str) -> bool | None:
        value = self._value.get(key)
        return value if isinstance(value, bool) else None

    def instant(self, key: str) -> datetime | None:
        """A Unix time in whole seconds."""
        seconds = self.integer(key)
        try:
            return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
        except (OverflowError, ValueError, OSError):
            return None

    def section(self, key: str) -> "Document":
        """The object under `key`; an empty document when there is none."""
        value = self._value.get(key)
        return Document(value if isinstance(value, dict) else {})

    def rows(self, key: str) -> "tuple[Document | None, ...]":
        """The list under `key`; entries that are not objects read as None, so that positions stay visible."""
        value = self._value.get(key)
        items = value if isinstance(value, list) else []
        return tuple(Document(item) if isinstance(item, dict) else None for item in items)

    def render(self, keys: tuple[str, ...]) -> str:
        """Compact JSON of the scalars among `keys`: a row's facts without the objects nested in it."""
        scalars = {
            key: self._value.get(key) for key in keys if not isinstance(self._value.get(key), (dict, list))
        }
        return json.dumps(scalars, default=str, separators=(",", ":"))
