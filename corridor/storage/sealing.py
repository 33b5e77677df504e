"""Seals single values at rest with AES-256-GCM: webhook secrets, raw provider bodies, answers that hold a secret.

A sealed value names its key, so rotated keys still open it, and is bound to its place (`webhook_endpoints/whe_…`):
moved to another row it does not open.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from corridor.domain.failure import invariant

_VERSION = 1
_NONCE_BYTES = 12


@dataclass(frozen=True)
class Sealer:
    """Seals with key `current`, opens with whichever key a value names. Keys are 32 bytes and do not print."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)

    def seal(self, plain: bytes, place: str) -> bytes:
        key_id = self.current.encode()
        nonce = os.urandom(_NONCE_BYTES)
        cipher = AESGCM(self.keys[self.current]).encrypt(nonce, plain, _bound(self.current, place))
        return bytes([_VERSION, len(key_id)]) + key_id + nonce + cipher

    def open(self, sealed: bytes, place: str) -> bytes:
        """Raises `cryptography.exceptions.InvalidTag` for a forged or displaced value, `KeyError` for a lost key."""
        invariant(sealed[0] == _VERSION, "sealed values are of version 1")
        start = 2 + sealed[1]
        key_id = sealed[2:start].decode()
        nonce, cipher = sealed[start : start + _NONCE_BYTES], sealed[start + _NONCE_BYTES :]
        return AESGCM(self.keys[key_id]).decrypt(nonce, cipher, _bound(key_id, place))


def _bound(key_id: str, place: str) -> bytes:
    return f"{key_id}|{place}".encode()
