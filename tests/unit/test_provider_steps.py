"""A send inside its activity: how long it may put off a repeat, when it is too late, and who may send at all."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr
from temporalio.exceptions import ApplicationError

from activities import provider_steps
from activities.contracts import Executed, ExecuteIn
from activities.edge import Edge
from activities.errors import LONGEST_PAUSE_SECONDS, REPEAT, TOO_LATE
from activities.provider_steps import ProviderSteps
from corridor.domain.effect import EffectState
from corridor.providers.registry import Registry
from corridor.providers.stripe.adapter import StripeProvider
from corridor.storage.database import Database
from tests.fakes.temporal import attempt
from tests.unit import relay_rows as rows


class Stand:
    """One declared sale, a provider that answers what the test says, and a clock the test sets."""

    def __init__(self, database: Database) -> None:
        self.database, self.now, self.received = database, rows.LATER, 0
        self.answer = httpx.Response(500, json={"error": {"type": "api_error"}})
        self.stripe = StripeProvider(
            base_url="http://provider.test",
            secret_key=SecretStr("sk_test_x"),
            webhook_secrets=(),
            clock=self.clock,
            transport=httpx.MockTransport(self._answered),
        )
        world: Any = None  # neither rates nor policies are asked
        edge = Edge(database, Registry([self.stripe]), desk=world, policies=world, now=self.clock)
        self.steps = ProviderSteps(edge)

    def clock(self) -> datetime:
        return self.now

    def _answered(self, _: httpx.Request) -> httpx.Response:
        self.received += 1
        return self.answer

    async def declare(self) -> str:
        merchant_id = await self.database.write(rows.merchant)
        payment = await self.database.write(rows.payment, merchant_id)
        return await self.database.write(rows.effect, payment, EffectState.DECLARED)

    async def execute(self, key: str, **wanted: Any) -> Executed:
        return await attempt().run(self.steps.execute, ExecuteIn(effect_key=key, **wanted))


@pytest_asyncio.fixture
async def stand(sqlite_database: str) -> AsyncIterator[Stand]:
    database = Database(sqlite_database)
    made = Stand(database)
    yield made
    await made.stripe.close()
    await database.close()


@pytest.mark.parametrize(("asked", "paused"), [(3_600, LONGEST_PAUSE_SECONDS), (7, 7)])
@pytest.mark.parametrize("status", [409, 429])
async def test_a_provider_that_asks_for_a_long_pause_holds_up_no_workflow(
    stand: Stand, status: int, asked: int, paused: int
) -> None:
    """Inside the activity nobody hears of a cancel; what it waits longer for is the workflow's to decide."""
    error = {"error": {"type": "api_error"}}
    stand.answer = httpx.Response(status, json=error, headers={"retry-after": str(asked)})
    with pytest.raises(ApplicationError) as raised:
        await stand.execute(await stand.declare())
    assert (raised.value.type, raised.value.non_retryable) == (REPEAT, False)
    assert raised.value.next_retry_delay is not None
    assert raised.value.next_retry_delay.total_seconds() == paused


@pytest.mark.parametrize("clock", ["wall", "monotonic"])
@pytest.mark.parametrize(("seconds", "is_sent"), [(8, False), (6, True)])
async def test_an_attempt_that_the_server_may_have_given_up_sends_nothing(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, clock: str, seconds: int, is_sent: bool
) -> None:
    """The worker stood still, or its database did: what looked the effect up meanwhile may have concluded already."""
    key = await stand.declare()
    read, ticks = Database.read, 0.0

    async def slowly(self: Database, *work: Any) -> Any:
        nonlocal ticks
        if clock == "wall":
            stand.now += timedelta(seconds=seconds)
        else:
            ticks += seconds
        return await read(self, *work)

    monkeypatch.setattr(Database, "read", slowly)
    monkeypatch.setattr(provider_steps, "monotonic", lambda: ticks)
    with pytest.raises(ApplicationError) as raised:
        await stand.execute(key)
    assert (raised.value.type, stand.received) == ((REPEAT, 1) if is_sent else (TOO_LATE, 0))
    assert not raised.value.non_retryable
