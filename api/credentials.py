"""API keys as text: `cor_{test|live}_{sk|rk}_{key id}_{secret}{checksum}`, made, read and compared.

`sk` is a merchant's key, `rk` an operator's. The checksum (CRC-32) lets secret scanners and this edge refuse
typing errors without a database; the database holds only HMAC-SHA256(pepper, secret). A secret of 32 random bytes
needs no slow hash.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import SecretStr
from sqlalchemy import Connection

from corridor.domain.ids import Prefix, new_id
from corridor.storage import merchants
from corridor.storage.merchants import NewKey, Role

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_LENGTH, _CHECKSUM_LENGTH = 43, 6
_FORM = re.compile(
    rf"cor_(test|live)_(sk|rk)_([0-9a-z]{{26}})_([0-9A-Za-z]{{{_SECRET_LENGTH}}})([0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})"
)
LOOKS_LIKE_A_KEY = re.compile(r"cor_(?:test|live)_(?:sk|rk)_")
_KINDS: dict[Role, str] = {"merchant": "sk", "operator": "rk"}


@dataclass(frozen=True)
class Credential:
    """A well-formed key, not yet checked against anything."""

    mode: str
    key_id: str
    secret: str = field(repr=False)


def read(text: str) -> Credential | None:
    """The parts of a key, or None when it is malformed or its checksum is wrong."""
    found = _FORM.fullmatch(text)
    if found is None or _checksum(text[: found.start(5)]) != found[5]:
        return None
    return Credential(found[1], f"{Prefix.API_KEY}_{found[3]}", found[4])


def issue(
    connection: Connection,
    *,
    merchant_id: str | None,
    role: Role,
    mode: str,
    pepper: SecretStr,
    now: datetime,
) -> str:
    """Make a key and store its HMAC. The returned text is the only copy there will ever be."""
    text, key = mint(merchant_id=merchant_id, role=role, mode=mode, pepper=pepper, now=now)
    merchants.create_key(connection, key, now)
    return text


def mint(
    *, merchant_id: str | None, role: Role, mode: str, pepper: SecretStr, now: datetime
) -> tuple[str, NewKey]:
    """A new key as text and as it is stored. `mode` is `test` or `live`."""
    key_id = new_id(Prefix.API_KEY, now)
    secret = _base62(int.from_bytes(secrets.token_bytes(32), "big"), _SECRET_LENGTH)
    head = f"cor_{mode}_{_KINDS[role]}_{key_id.partition('_')[2]}_{secret}"
    stored = NewKey(
        id=key_id,
        merchant_id=merchant_id,
        role=role,
        secret_hmac=digest(secret, pepper),
        pepper_id=pepper_id(pepper),
    )
    return head + _checksum(head), stored


def matches(credential: Credential, secret_hmac: bytes, pepper: SecretStr) -> bool:
    """Constant-time comparison with what is stored."""
    return hmac.compare_digest(digest(credential.secret, pepper), secret_hmac)


def digest(secret: str, pepper: SecretStr) -> bytes:
    return hmac.digest(pepper.get_secret_value().encode(), secret.encode(), "sha256")


def pepper_id(pepper: SecretStr) -> str:
    """Names the pepper a key was hashed with, without telling it: a changed pepper is seen, not guessed."""
    return hashlib.sha256(b"corridor.pepper|" + pepper.get_secret_value().encode()).hexdigest()[:16]


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECKSUM_LENGTH)


def _base62(value: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        value, digit = divmod(value, 62)
        digits = _BASE62[digit] + digits
    return digits
