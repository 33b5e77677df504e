"""The data converter of every client, worker and replayer: pydantic JSON, sealed with AES-256-GCM.

Failures are sealed too: message, stack trace and details of an error may quote a provider's answer. What
Temporal keeps readable all the same (ids, type and queue names, search attributes, an error's `type`) must
carry nothing personal. Larger payloads are packed before they are sealed: what Temporal stores of a payment is cut by a
third, and the length of a sealed payload tells nobody anything about a secret, for no outsider sees one.
"""

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import DataConverter, DefaultFailureConverter, PayloadCodec

from corridor.runtime.keys import KeyRing

SEALED = b"binary/encrypted"
KEY_ID = "encryption-key-id"
PACKING = "packing"
ZLIB = b"zlib"
NONCE_BYTES = 12
_WORTH_PACKING_BYTES = 256
_LEVEL = 1
"""The fastest: JSON of a payment shrinks to half by it, and the higher levels win a few bytes more."""


class SealCodec(PayloadCodec):
    """Seals with the ring's current key, opens by the key id a payload names."""

    def __init__(self, ring: KeyRing, namespace: str) -> None:
        self._current = ring.current
        self._ciphers = {key_id: AESGCM(key) for key_id, key in ring.keys.items()}
        self._namespace = namespace

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Seal each payload whole, its metadata included."""
        return [self._seal(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Open the sealed ones. Raises `cryptography.exceptions.InvalidTag` for a forged or foreign one."""
        return [self._open(p) if p.metadata.get("encoding") == SEALED else p for p in payloads]

    def key_ids(self, payloads: Iterable[Payload]) -> set[str]:
        """Ids of the keys these payloads need, for the codec server's audit trail."""
        return {p.metadata[KEY_ID].decode() for p in payloads if p.metadata.get("encoding") == SEALED}

    def _seal(self, payload: Payload) -> Payload:
        nonce, plain = os.urandom(NONCE_BYTES), payload.SerializeToString()
        metadata = {"encoding": SEALED, KEY_ID: self._current.encode()}
        packed = zlib.compress(plain, _LEVEL) if len(plain) > _WORTH_PACKING_BYTES else plain
        if len(packed) < len(plain):
            metadata[PACKING] = ZLIB
        else:
            packed = plain
        sealed = self._ciphers[self._current].encrypt(nonce, packed, self._aad(self._current, metadata))
        return Payload(metadata=metadata, data=nonce + sealed)

    def _open(self, payload: Payload) -> Payload:
        key_id = payload.metadata[KEY_ID].decode()
        if key_id not in self._ciphers:
            raise KeyError(f"key {key_id!r} is not in the ring")
        nonce, sealed = payload.data[:NONCE_BYTES], payload.data[NONCE_BYTES:]
        packed = self._ciphers[key_id].decrypt(nonce, sealed, self._aad(key_id, payload.metadata))
        is_packed = payload.metadata.get(PACKING) == ZLIB
        return Payload.FromString(zlib.decompress(packed) if is_packed else packed)

    def _aad(self, key_id: str, metadata: Mapping[str, bytes]) -> bytes:
        # Bound to the namespace but not to the run: a reset or an exported history must still open.
        bound = f"{key_id}|{self._namespace}".encode()
        return bound + b"|" + metadata[PACKING] if PACKING in metadata else bound


_TYPES_KEPT = 64
"""A few more than there are messages; in the SDK's plain sandbox every workflow brings message types of its own."""


class Messages(PydanticPayloadConverter):
    """The SDK's pydantic converter, with one memory of how each message is read for all its instances.

    The SDK makes an instance for every workflow in its cache, and each would work out the same few messages anew.
    """

    _shared = PydanticPayloadConverter(max_cached_type_adapters=_TYPES_KEPT).converters

    def __init__(self) -> None:
        self.converters = self._shared


class SealedFailures(DefaultFailureConverter):
    """Moves message, stack trace and details of a failure and its causes into a sealed payload."""

    def __init__(self) -> None:
        super().__init__(encode_common_attributes=True)


def make_converter(ring: KeyRing, namespace: str) -> DataConverter:
    """The converter for one namespace."""
    return DataConverter(
        payload_converter_class=Messages,
        payload_codec=SealCodec(ring, namespace),
        failure_converter_class=SealedFailures,
    )
