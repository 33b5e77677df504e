"""One caller's rush: what is too many at once is refused with 429 before anything is done, and others are served."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import func, select

from corridor.runtime.settings import Settings
from corridor.storage.tables import payments
from tests.api.conftest import Clock, Stand, order, standing
from workflows.messages import PaymentAnswer

MOST = 3


@pytest_asyncio.fixture
async def crowded(sqlite_database: str, clock: Clock, settings: Settings) -> AsyncIterator[Stand]:
    few = settings.model_copy(update={"requests_at_once": MOST, "streams_at_once": 1})
    async with standing(sqlite_database, clock, few) as made:
        yield made


class Slow:
    """A workflow that answers when the test says so."""

    def __init__(self, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting, self.may_go_on = 0, asyncio.Event()
        self._start = stand.gateway.start_payment
        monkeypatch.setattr(stand.gateway, "start_payment", self._wait)

    async def _wait(self, row: Any, deadline_seconds: float) -> PaymentAnswer | None:
        self.waiting += 1
        await self.may_go_on.wait()
        return await self._start(row, deadline_seconds)

    async def all_wait(self) -> None:
        async with asyncio.timeout(20):
            while self.waiting < MOST:
                await asyncio.sleep(0.01)


async def test_one_too_many_is_refused_and_others_are_served(
    crowded: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(crowded, monkeypatch)
    async with asyncio.TaskGroup() as group:
        inside = [group.create_task(crowded.post("/v1/payments", order(), key=f"k{n}")) for n in range(MOST)]
        await slow.all_wait()
        refused = await crowded.post("/v1/payments", order(), key="one-too-many")
        looked = await crowded.get("/v1/balances")
        others = await crowded.get("/v1/balances", who="other")
        slow.may_go_on.set()
    assert [task.result().status_code for task in inside] == [201] * MOST
    assert (refused.status_code, looked.status_code, others.status_code) == (429, 429, 200)
    assert refused.headers["Retry-After"] == "1"
    problem = refused.json()
    assert (problem["code"], problem["retry"], problem["limit"]) == ("concurrency_limited", "same_key", MOST)
    assert await crowded.database.read(_accepted) == MOST, "nothing was done with the one that was refused"


async def test_a_refused_request_is_served_once_there_is_room(
    crowded: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(crowded, monkeypatch)
    async with asyncio.TaskGroup() as group:
        for number in range(MOST):
            group.create_task(crowded.post("/v1/payments", order(), key=f"k{number}"))
        await slow.all_wait()
        assert (await crowded.post("/v1/payments", order(), key="again")).status_code == 429
        slow.may_go_on.set()
    assert (await crowded.post("/v1/payments", order(), key="again")).status_code == 201


async def test_what_fails_gives_its_place_back(crowded: Stand) -> None:
    answers = [await crowded.post("/v1/payments", {"amount": 1}) for _ in range(2 * MOST)]
    assert {answer.status_code for answer in answers} == {400}
    assert (await crowded.get("/v1/balances")).status_code == 200


async def test_streams_have_places_of_their_own(crowded: Stand) -> None:
    object.__setattr__(crowded.dependencies, "stream_life", timedelta(seconds=2))
    listening = asyncio.create_task(_stream(crowded))
    async with asyncio.timeout(20):
        while not crowded.feed._somebody.is_set():
            await asyncio.sleep(0.01)
    second = await _stream(crowded)
    assert (second.status_code, second.json()["code"]) == (429, "concurrency_limited")
    looks = [crowded.get("/v1/balances") for _ in range(MOST)]
    assert [answer.status_code for answer in await asyncio.gather(*looks)] == [200] * MOST
    assert (await listening).status_code == 200
    assert (await _stream(crowded)).status_code == 200, "the first one's place is free again"


async def _stream(stand: Stand) -> httpx.Response:
    return await stand.http.get("/v1/events/stream", headers=stand.headers())


def _accepted(connection: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(payments)).scalar_one())
