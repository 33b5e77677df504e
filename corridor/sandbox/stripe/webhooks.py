"""Signed webhooks: a queue in the books, sent until the receiver answers 2xx, across restarts.

Signature scheme: docs.stripe.com/webhooks#verify-manually (`t=<unix>,v1=<HMAC-SHA256 of "t.body">`).
"""

import asyncio
import hashlib
import hmac
import itertools
import logging
import sqlite3
from dataclasses import dataclass

import httpx

from corridor.sandbox.stripe.provider import StripeSandbox

IDLE_SECONDS = 0.05
BATCH = 64
LONGEST_BACKOFF_MS = 60_000
FIRST_DELIVERY_SECONDS = 5

logger = logging.getLogger(__name__)


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """The Stripe-Signature header of a body."""
    signed = f"{timestamp}.".encode() + body
    return f"t={timestamp},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


@dataclass(frozen=True)
class Delivery:
    """One waiting attempt to tell the receiver about one event."""

    sequence: int
    subject: str
    attempts: int
    body: bytes


class WebhookPump:
    """Takes due deliveries from the books; those about one object go one after another, others side by side."""

    def __init__(self, stripe: StripeSandbox) -> None:
        self.stripe = stripe
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._client = httpx.AsyncClient(timeout=stripe.config.webhook_timeout_seconds, trust_env=False)

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                if not await self._started_any():
                    await asyncio.sleep(IDLE_SECONDS)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._client.aclose()

    async def delivered(self, event_ids: list[str]) -> None:
        """Wait until each of these events was attempted once, but no longer than a few seconds."""
        marks = ", ".join("?" for _ in event_ids)
        sql = f"SELECT COUNT(*) FROM deliveries WHERE attempts = 0 AND event_id IN ({marks})"  # noqa: S608 - question marks only
        try:
            async with asyncio.timeout(FIRST_DELIVERY_SECONDS):
                while await self.stripe.books.run(lambda c: int(c.execute(sql, event_ids).fetchone()[0])):  # noqa: ASYNC110 - the change is in the books
                    await asyncio.sleep(IDLE_SECONDS)
        except TimeoutError:
            logger.warning("the webhook receiver did not take the events before the answer")

    async def _started_any(self) -> bool:
        """Books that cannot be read or written just now (a full disk) are tried again."""
        try:
            return await self._start_due()
        except sqlite3.OperationalError as error:
            logger.warning("deliveries wait for the books: %s", error)
            return False

    async def _start_due(self) -> bool:
        room = self.stripe.config.webhook_concurrency - len(self._tasks)
        if not self.stripe.endpoint.url or room <= 0:
            return False
        due = await self.stripe.books.run(lambda c: _due(c, self.stripe.clock.milliseconds()))
        free = [delivery for delivery in due if delivery.subject not in self._busy]
        groups: dict[str, list[Delivery]] = {}
        for delivery in free:
            groups.setdefault(delivery.subject, []).append(delivery)
        started = list(itertools.islice(groups.items(), room))
        for subject, deliveries in started:
            self._busy.add(subject)
            task = asyncio.create_task(self._send_all(subject, deliveries))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return bool(started)

    async def _send_all(self, subject: str, deliveries: list[Delivery]) -> None:
        try:
            results = [(delivery, await self._send(delivery.body)) for delivery in deliveries]
            await self.stripe.books.run(lambda connection: self._record(connection, results))
        except sqlite3.OperationalError as error:
            # They stand as waiting, and are sent once more: a receiver must bear duplicates.
            logger.warning("deliveries were made and could not be noted: %s", error)
        finally:
            self._busy.discard(subject)

    async def _send(self, body: bytes) -> str:
        """`ok`, or what went wrong."""
        endpoint = self.stripe.endpoint
        header = signature(endpoint.secret, self.stripe.clock.seconds(), body)
        headers = {
            "Stripe-Signature": header,
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0",
        }
        try:
            response = await self._client.post(endpoint.url, content=body, headers=headers)
        except httpx.HTTPError as error:
            return type(error).__name__
        return "ok" if response.is_success else f"HTTP {response.status_code}"

    def _record(self, connection: sqlite3.Connection, results: list[tuple[Delivery, str]]) -> None:
        config, now = self.stripe.config, self.stripe.clock.milliseconds()
        for delivery, result in results:
            attempts = delivery.attempts + 1
            backoff = min(config.webhook_backoff_milliseconds * 2**delivery.attempts, LONGEST_BACKOFF_MS)
            state = (
                "delivered"
                if result == "ok"
                else "waiting"
                if attempts < config.webhook_attempts
                else "exhausted"
            )
            connection.execute(
                "UPDATE deliveries SET attempts = ?, state = ?, last_result = ?, due_ms = ? WHERE sequence = ?",
                (attempts, state, result, now + backoff if state == "waiting" else now, delivery.sequence),
            )


def _due(connection: sqlite3.Connection, now_ms: int) -> list[Delivery]:
    rows = connection.execute(
        "SELECT d.sequence, d.subject, d.attempts, o.document FROM deliveries d JOIN objects o ON o.id = d.event_id"
        " WHERE d.state = 'waiting' AND d.due_ms <= ? ORDER BY d.due_ms, d.sequence LIMIT ?",
        (now_ms, BATCH),
    )
    return [
        Delivery(row["sequence"], row["subject"], row["attempts"], row["document"].encode()) for row in rows
    ]
