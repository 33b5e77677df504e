"""One unit of work on the fake Stripe's books: the open transaction and everything a request brings to it."""

import json
import random
import secrets
import sqlite3
from dataclasses import dataclass, field

from corridor.sandbox.config import SandboxConfig
from corridor.sandbox.stripe.currencies import Exchange
from corridor.sandbox.stripe.errors import Document, no_such

NAMES = {
    "payment_intent": "payment_intent", "charge": "charge", "refund": "refund", "payout": "payout",
    "balance_transaction": "balance transaction", "event": "event", "dispute": "dispute",
}  # fmt: skip


# Seeded once: asking the kernel for every id costs more than the rest of a small request.
_IDS = random.Random(secrets.randbits(256))  # noqa: S311 - names of fake objects protect nothing


@dataclass
class WebhookPlan:
    """How the events of this unit of work are to be delivered."""

    copies: int = 0
    delay_milliseconds: int = 0
    reordered: bool = False
    dropped: bool = False


@dataclass
class Work:
    """Created by the edge with the time already read; everything below it only writes to `connection`."""

    connection: sqlite3.Connection
    config: SandboxConfig
    exchange: Exchange
    now_ms: int
    base_url: str = ""
    request_id: str | None = None
    idempotency_key: str | None = None
    visible_at_ms: int = 0
    webhooks: WebhookPlan = field(default_factory=WebhookPlan)
    event_ids: list[str] = field(default_factory=list)

    @property
    def now(self) -> int:
        """Unix seconds."""
        return self.now_ms // 1000

    def insert(
        self,
        document: Document,
        *,
        owner: str | None = None,
        subject: str | None = None,
        private: Document | None = None,
    ) -> None:
        """Add a new object under its own id and kind."""
        self.connection.execute(
            "INSERT INTO objects (id, kind, created, owner, subject, visible_at_ms, document, private)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (document["id"], document["object"], document["created"], owner, subject, self.visible_at_ms,
             json.dumps(document), json.dumps(private or {})),
        )  # fmt: skip
        if document["object"] in ("payment_intent", "refund"):
            self.index_metadata(document)

    def index_metadata(self, document: Document) -> None:
        """Make an object findable by its metadata."""
        self.connection.executemany(
            "INSERT OR IGNORE INTO metadata_index (key, value, object_id) VALUES (?, ?, ?)",
            [(key, value, document["id"]) for key, value in document["metadata"].items()],
        )

    def save(self, document: Document) -> None:
        """Replace the state of an object that exists."""
        self.connection.execute(
            "UPDATE objects SET document = ? WHERE id = ?", (json.dumps(document), document["id"])
        )

    def save_private(self, object_id: str, private: Document) -> None:
        """Replace what the sandbox keeps about an object and never shows."""
        self.connection.execute(
            "UPDATE objects SET private = ? WHERE id = ?", (json.dumps(private), object_id)
        )

    def get(self, kind: str, object_id: str, param: str = "id") -> Document:
        """An object by id; StripeError `resource_missing` if there is none of that kind."""
        row = self._row(kind, object_id)
        if row is None:
            raise no_such(NAMES[kind], object_id, param)
        document: Document = json.loads(row["document"])
        return document

    def private(self, kind: str, object_id: str) -> Document:
        """What the sandbox keeps about an object and never shows."""
        row = self._row(kind, object_id)
        if row is None:
            raise no_such(NAMES[kind], object_id)
        private: Document = json.loads(row["private"])
        return private

    def owned(self, owner: str, kind: str) -> list[Document]:
        """All objects of a kind that belong to `owner`, oldest first."""
        rows = self.connection.execute(
            "SELECT document FROM objects WHERE owner = ? AND kind = ? ORDER BY sequence", (owner, kind)
        )
        return [json.loads(row["document"]) for row in rows]

    def move(self, effect: str, intent: str | None, document: Document, amount: int, currency: str) -> None:
        """Write one line of the oracle: money (or a promise of it) moved."""
        key = self.idempotency_key
        if key is None and intent is not None and effect in ("authorise", "capture", "fee"):
            key = self.private("payment_intent", intent).get("idempotency_key")
        self.connection.execute(
            "INSERT INTO movements (effect, intent, object_id, amount, currency, metadata, idempotency_key, at_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                effect,
                intent,
                document["id"],
                amount,
                currency,
                json.dumps(document["metadata"]),
                key,
                self.now_ms,
            ),
        )

    def after(self, seconds: int, action: str, subject: str) -> None:
        """Have a timer run `action` on an object later; timers survive a restart."""
        self.connection.execute(
            "INSERT INTO timers (due_ms, action, subject) VALUES (?, ?, ?)",
            (self.now_ms + seconds * 1000, action, subject),
        )

    def _row(self, kind: str, object_id: str) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self.connection.execute(
            "SELECT document, private FROM objects WHERE id = ? AND kind = ?", (object_id, kind)
        ).fetchone()
        return row


def new_id(prefix: str) -> str:
    """An identifier in Stripe's manner: prefix and 24 characters."""
    return f"{prefix}_{_IDS.getrandbits(96):024x}"
