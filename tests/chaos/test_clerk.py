"""The operator of a run: what he must notice when one click is answered twice."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import pytest

from api.cli.demo.shop import Answer, Shop
from api.cli.drill.disasters import Recovered
from tests.chaos.clerk import Clerk
from tests.chaos.watch import WentBack

REVIEW = {"id": "rvw_1", "payment": "pay_1", "reason": "risk_review"}
MINUTE = timedelta(minutes=1)


class Answering:
    """A shop to whom each click is answered in turn."""

    name = "operator"

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        self._answers: Iterator[tuple[int, bytes]] = iter(answers)

    async def post(self, path: str, body: Any, key: str) -> Answer:
        status, text = next(self._answers)
        return Answer(status, text, seconds=0.1, sends=1)


@pytest.fixture
async def sandbox() -> Any:
    async with httpx.AsyncClient() as client:
        yield client


async def clicked(sandbox: httpx.AsyncClient, *answers: tuple[int, bytes]) -> Clerk:
    shop = cast(Shop, Answering(*answers))
    clerk = Clerk(shop, shop, sandbox, [])
    await clerk._patiently(clerk._on_its_page(REVIEW, {}))
    return clerk


def went_back(copied_at: datetime, released_at: datetime) -> WentBack:
    """A return to a copy of then, which was over at the other moment."""
    return WentBack(copied_at, copied_at, released_at, 60.0, Recovered())


async def test_two_clicks_with_one_answer_are_no_surprise(sandbox: httpx.AsyncClient) -> None:
    clerk = await clicked(sandbox, (200, b"{}"), (200, b"{}"))
    assert clerk.found([]) == []


async def test_a_click_that_was_carried_out_and_refused_is_a_surprise_whatever_happened(
    sandbox: httpx.AsyncClient,
) -> None:
    begun = datetime.now(UTC)
    clerk = await clicked(sandbox, (200, b"{}"), (409, b"{}"))
    assert "200 and 409" in clerk.found([went_back(begun - MINUTE, datetime.now(UTC) + MINUTE)])[0]


async def test_two_answers_that_differ_are_a_surprise_unless_the_first_was_lost_with_its_database(
    sandbox: httpx.AsyncClient,
) -> None:
    begun = datetime.now(UTC)
    clerk = await clicked(sandbox, (200, b'{"looks":1}'), (200, b'{"looks":0}'))
    assert "looks" in clerk.found([])[0]
    assert "looks" in clerk.found([went_back(begun - 2 * MINUTE, begun - MINUTE)])[0]
    assert clerk.found([went_back(begun - MINUTE, datetime.now(UTC) + MINUTE)]) == []
