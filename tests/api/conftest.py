"""The API under test: the real application on a real database, with a fake in Temporal's place."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy import Connection

from api import credentials
from api.app import create_app
from api.dependencies import ApiDependencies
from api.feed import Feed
from corridor.domain.accepted import NewPayment
from corridor.domain.failure import Refusal, Refused
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.domain.quote import Quote, client_amounts
from corridor.providers.registry import Registry
from corridor.providers.stripe.adapter import StripeProvider
from corridor.runtime.settings import Settings, load
from corridor.storage import merchants
from corridor.storage.database import Database
from corridor.storage.merchants import NewMerchant
from corridor.storage.sealing import Sealer
from tests.fakes.gateway import FakeGateway

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
WEBHOOK_SECRET = "whsec_test_endpoint"
PEPPER = SecretStr("pepper-of-this-test")


@dataclass
class Clock:
    """Stands still until a test moves it."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class FixedQuotes:
    """Quotes at a fixed rate, counting how often it was asked."""

    rate: Decimal = Decimal("7.5")
    asked: int = 0

    async def quote(
        self, merchant_id: str, sell: Money, buy_currency: str, lock_seconds: int, now: datetime
    ) -> Quote:
        self.asked += 1
        client_rate, bought, at_mid = client_amounts(sell, self.rate, 40, buy_currency)
        return Quote(
            id=new_id(Prefix.QUOTE, now),
            merchant_id=merchant_id,
            sell_amount=sell,
            buy_amount=bought,
            mid_amount=at_mid,
            client_rate=client_rate,
            mid_rate=self.rate,
            mid_source="test",
            mid_as_of="2026-11-20",
            spread_bps=40,
            liquidity_provider="test",
            liquidity_reference="q-1",
            lock_seconds=lock_seconds,
            valid_from=now,
            expires_at=now + timedelta(seconds=lock_seconds),
        )


@dataclass
class LimitAdmission:
    """Refuses amounts above a limit, as the risk policy does at the door."""

    limit_minor: int = 10**9

    def check(self, new: NewPayment, now: datetime) -> None:
        if new.amount.minor > self.limit_minor:
            raise Refused(Refusal.LIMIT_EXCEEDED, "over the limit of one payment", pointer="/amount/minor")


@dataclass
class Stand:
    """Everything a test of the API touches. `post` sends a key of its own unless given one."""

    http: httpx.AsyncClient
    dependencies: ApiDependencies
    gateway: FakeGateway
    clock: Clock
    quotes: FixedQuotes
    merchant_id: str
    other_id: str
    keys: dict[str, str]
    feed: Feed
    sent: int = field(default=0)

    @property
    def database(self) -> Database:
        return self.dependencies.database

    def headers(self, who: str = "merchant", **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[who]}", **more}

    async def post(
        self, path: str, body: Any = None, *, key: str | None = None, who: str = "merchant"
    ) -> httpx.Response:
        self.sent += 1
        headers = self.headers(who, **{"Idempotency-Key": key or f"test-{self.sent}"})
        return await self.http.post(path, json=body, headers=headers)

    async def get(self, path: str, *, who: str = "merchant", **params: Any) -> httpx.Response:
        return await self.http.get(path, headers=self.headers(who), params=params)

    async def paid(self, **changes: Any) -> dict[str, Any]:
        """A payment as its 201 describes it."""
        answer = await self.post("/v1/payments", order(**changes))
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created


def order(**changes: Any) -> dict[str, Any]:
    """A good payment request; `changes` replace members."""
    return {
        "amount": {"minor": 10_000, "currency": "EUR", "exponent": 2},
        "payment_method": {"type": "card", "provider_token": "pm_card_visa", "fingerprint": "card-a"},
        "buyer": {"country": "DE", "reference": "buyer-17"},
        "merchant_reference": "order-7781",
        **changes,
    }


@asynccontextmanager
async def standing(url: str, clock: Clock, settings: Settings) -> AsyncIterator[Stand]:
    """A stand on the database at `url`."""
    database = Database(url)
    stripe = StripeProvider(
        base_url="http://127.0.0.1:9",
        secret_key=SecretStr("sk_test_x"),
        webhook_secrets=[SecretStr(WEBHOOK_SECRET)],
        clock=clock,
    )
    gateway, quotes = FakeGateway(database, clock), FixedQuotes()
    dependencies = ApiDependencies(
        database=database,
        gateway=gateway,
        settings=settings,
        quotes=quotes,
        admission=LimitAdmission(),
        registry=Registry([stripe]),
        sealer=Sealer("k1", {"k1": bytes(32)}),
        clock=clock,
        stream_poll_seconds=0.02,
        stream_life=timedelta(seconds=0.4),
    )
    ids = [new_id(Prefix.MERCHANT, clock()) for _ in range(2)]
    keys = await database.write(_people, ids, clock())
    app = create_app(dependencies)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api.test") as http,
    ):
        yield Stand(http, dependencies, gateway, clock, quotes, ids[0], ids[1], keys, app.state.feed)
    await stripe.close()
    await database.close()


def _people(connection: Connection, ids: list[str], now: datetime) -> dict[str, str]:
    """Two merchants and an operator, each with a key."""

    def key(merchant_id: str | None, role: merchants.Role) -> str:
        return credentials.issue(
            connection, merchant_id=merchant_id, role=role, mode="test", pepper=PEPPER, now=now
        )

    for merchant_id in ids:
        new = NewMerchant(id=merchant_id, name="Shop", country="CN", settle_currency="CNY")
        merchants.create_merchant(connection, new, now)
    return {
        "merchant": key(ids[0], "merchant"),
        "other": key(ids[1], "merchant"),
        "operator": key(None, "operator"),
    }


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(data_dir=tmp_path / "data", api_key_pepper=PEPPER, answer_deadline_seconds=2.0)


@pytest_asyncio.fixture
async def stand(database_url: str, clock: Clock, settings: Settings) -> AsyncIterator[Stand]:
    """On SQLite and on PostgreSQL."""
    async with standing(database_url, clock, settings) as made:
        yield made


@pytest_asyncio.fixture
async def small_stand(sqlite_database: str, clock: Clock, settings: Settings) -> AsyncIterator[Stand]:
    """On SQLite alone, for what does not depend on the database."""
    async with standing(sqlite_database, clock, settings) as made:
        yield made
