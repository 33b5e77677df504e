"""The fake Stripe as a running thing: its books, its clock, its faults and its webhook endpoint."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from corridor.sandbox.books import Books
from corridor.sandbox.clock import Clock
from corridor.sandbox.config import SandboxConfig
from corridor.sandbox.faults import FaultRules
from corridor.sandbox.rates import ReferenceRates
from corridor.sandbox.stripe import timers
from corridor.sandbox.stripe.currencies import Exchange
from corridor.sandbox.stripe.events import plan_deliveries
from corridor.sandbox.stripe.idempotency import KeysInUse
from corridor.sandbox.stripe.schema import SCHEMA
from corridor.sandbox.stripe.settlement import pay_out
from corridor.sandbox.stripe.work import Work

T = TypeVar("T")


@dataclass
class Endpoint:
    """Where events go; can be changed while running."""

    url: str
    secret: str


@dataclass
class StripeSandbox:
    """Everything the HTTP edge, the timers and the webhook pump of the fake Stripe share."""

    config: SandboxConfig
    clock: Clock
    rules: FaultRules
    rates: ReferenceRates
    books: Books = field(init=False)
    endpoint: Endpoint = field(init=False)
    keys: KeysInUse = field(default_factory=KeysInUse)
    next_payout_ms: int = 0

    def __post_init__(self) -> None:
        self.books = Books(self.config.data_dir / "stripe.sqlite", SCHEMA)
        self.exchange = Exchange(self.rates, self.config.conversion_basis_points)
        self.endpoint = Endpoint(self.config.webhook_url, self.config.webhook_secret)
        self.books.run_blocking(self._restore)

    async def run(self, unit: Callable[[Work], T], **context: Any) -> T:
        """Run a unit of work; the events it emits are queued in the same transaction."""

        def with_connection(connection: sqlite3.Connection) -> T:
            work = self._work(connection, context)
            result = unit(work)
            plan_deliveries(work, _subject(work))
            return result

        return await self.books.run(with_connection)

    async def advance_clock(self, seconds: int) -> None:
        """Move time forward and remember it across restarts."""
        self.clock.advance(seconds)
        offset = self.clock.offset_milliseconds
        await self.run(lambda work: save_setting(work.connection, "clock_offset_ms", offset))

    async def set_endpoint(self, url: str, secret: str) -> None:
        """Send events elsewhere from now on, across restarts too."""
        self.endpoint = Endpoint(url, secret)
        await self.run(lambda work: save_setting(work.connection, "endpoint", [url, secret]))

    async def tick(self) -> int:
        """Run everything that is due; returns how many timers ran."""
        due = await self.books.run(lambda connection: timers.due(connection, self.clock.milliseconds()))
        await asyncio.gather(*[self.run(partial(timers.run_one, timer=timer)) for timer in due])
        if self.config.payout_period_seconds and self.clock.milliseconds() >= self.next_payout_ms:
            self.next_payout_ms = self.clock.milliseconds() + self.config.payout_period_seconds * 1000
            await self.run(pay_out)
        return len(due)

    async def settle_now(self) -> list[str]:
        """Everything collected becomes available and is paid out at once; returns the payout ids."""
        collecting = ("settle_asynchronous_charge", "make_available")
        await self._hasten_all(*collecting)
        await self._hasten_all(*collecting)  # an asynchronous charge starts its own availability timer
        payouts = await self.run(pay_out)
        await self._hasten_all("mark_paid")
        return payouts

    async def _hasten_all(self, *actions: str) -> None:
        await self.run(lambda work: timers.hasten(work, *actions))
        while await self.tick() == timers.BATCH:
            continue

    def _work(self, connection: sqlite3.Connection, context: dict[str, Any]) -> Work:
        work = Work(connection, self.config, self.exchange, self.clock.milliseconds(), **context)
        if not self.endpoint.url:
            work.webhooks.dropped = True
        return work

    def _restore(self, connection: sqlite3.Connection) -> None:
        saved = {
            row["name"]: json.loads(row["value"]) for row in connection.execute("SELECT * FROM settings")
        }
        self.clock.offset_milliseconds = max(saved.get("clock_offset_ms", 0), self.clock.offset_milliseconds)
        if "endpoint" in saved and not self.config.webhook_url:
            self.endpoint = Endpoint(*saved["endpoint"])


def save_setting(connection: sqlite3.Connection, name: str, value: Any) -> None:
    """Remember something about the sandbox itself."""
    connection.execute(
        "INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", (name, json.dumps(value))
    )


def _subject(work: Work) -> str:
    """Deliveries of one unit of work are about one object and keep their order among themselves."""
    if not work.event_ids:
        return ""
    row = work.connection.execute("SELECT owner FROM objects WHERE id = ?", (work.event_ids[0],)).fetchone()
    return str(row["owner"])
