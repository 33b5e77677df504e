"""Idempotency keys exactly as documented (docs.stripe.com/api/idempotent_requests).

Once execution began, status and body are kept under the key whatever they are, 500 included, and replayed; the
same key with other parameters is refused; a key may be pruned after its life and then executes anew. Validation
failures, conflicts, 401 and 429 are never kept.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from corridor.sandbox.stripe.errors import Document, key_in_use, key_reused
from corridor.sandbox.stripe.work import Work


@dataclass(frozen=True)
class StoredAnswer:
    """The bytes of a first answer."""

    status: int
    body: bytes
    request_id: str


class KeysInUse:
    """Keys whose first request is executing now. A restart ends all executions, so memory is the right place."""

    def __init__(self) -> None:
        self._keys: set[str] = set()

    @contextmanager
    def hold(self, key: str | None) -> Iterator[None]:
        """Own the key while executing; StripeError 409 if someone else does."""
        if key is None:
            yield
            return
        if key in self._keys:
            raise key_in_use()
        self._keys.add(key)
        try:
            yield
        finally:
            self._keys.discard(key)


def fingerprint(path: str, params: Document) -> str:
    """Endpoint and parameters, in any order."""
    canonical = json.dumps([path, params], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def recall(work: Work, print_: str) -> StoredAnswer | None:
    """The first answer under this request's key; StripeError if it belongs to other parameters."""
    if work.idempotency_key is None:
        return None
    row = _row(work.connection, work.idempotency_key)
    if row is None:
        return None
    if row["created_ms"] + work.config.idempotency_key_seconds * 1000 <= work.now_ms:
        work.connection.execute("DELETE FROM idempotency WHERE key = ?", (work.idempotency_key,))
        return None
    if row["fingerprint"] != print_:
        raise key_reused(work.idempotency_key)
    return StoredAnswer(row["status"], row["body"], row["request_id"])


def keep(work: Work, print_: str, status: int, body: bytes) -> None:
    """Store the first answer in the transaction of its effect."""
    if work.idempotency_key is None:
        return
    work.connection.execute(
        "INSERT INTO idempotency (key, fingerprint, status, body, request_id, created_ms) VALUES (?, ?, ?, ?, ?, ?)",
        (work.idempotency_key, print_, status, body, work.request_id, work.now_ms),
    )


def _row(connection: sqlite3.Connection, key: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = connection.execute("SELECT * FROM idempotency WHERE key = ?", (key,)).fetchone()
    return row
