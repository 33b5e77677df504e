"""Identifiers: a prefix and a UUIDv7 in 26 base32 characters (the TypeID form), so ids sort by creation."""

import secrets
from datetime import UTC, datetime
from enum import StrEnum

from corridor.domain.failure import Refusal, Refused

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_BODY_LENGTH = 26


class Prefix(StrEnum):
    """What an id names; the prefix is checked before any database look-up."""

    PAYMENT = "pay"
    ATTEMPT = "att"
    REFUND = "rfd"
    QUOTE = "qte"
    REVIEW = "rvw"
    EVENT = "evt"
    WEBHOOK_ENDPOINT = "whe"
    DELIVERY = "dlv"
    MERCHANT = "mer"
    API_KEY = "key"
    REQUEST = "req"
    POSTING = "pst"
    SETTLEMENT = "stl"
    PROVIDER_EVENT = "pev"
    OPERATOR_ACT = "act"


def new_id(prefix: Prefix, now: datetime, entropy: bytes | None = None) -> str:
    """`pay_01k…`: UUIDv7 (RFC 9562 §5.7) of `now` in milliseconds and 10 random bytes, encoded as in TypeID.

    Edges call this; inner and workflow code receives ids. `entropy` (10 bytes) is for tests.
    """
    random = int.from_bytes(entropy or secrets.token_bytes(10), "big")
    milliseconds = int(now.timestamp() * 1000)
    value = (
        (milliseconds << 80)
        | (0x7 << 76)
        | ((random >> 68 & 0xFFF) << 64)
        | (0b10 << 62)
        | (random & (2**62 - 1))
    )
    return f"{prefix}_{_encode(value)}"


def _encode(value: int) -> str:
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(5 * (_BODY_LENGTH - 1), -1, -5))


def is_id(text: str, prefix: Prefix) -> bool:
    """True when `text` has the prefix and a well-formed body."""
    head, _, body = text.partition("_")
    return (
        head == prefix and len(body) == _BODY_LENGTH and body[0] in "01234567" and set(body) <= set(_ALPHABET)
    )


def checked(text: str, prefix: Prefix) -> str:
    """`text` itself, or `Refused(NOT_FOUND)` when it cannot be an id of this kind."""
    if not is_id(text, prefix):
        raise Refused(Refusal.NOT_FOUND, f"no such {prefix.name.lower().replace('_', ' ')}")
    return text


def created_at(identifier: str) -> datetime:
    """The creation time an id carries (millisecond precision)."""
    value = 0
    for character in identifier.partition("_")[2]:
        value = value << 5 | _ALPHABET.index(character)
    return datetime.fromtimestamp((value >> 80) / 1000, UTC)
