"""Who waited how long in the rush is told apart by when and where an order was placed."""

import httpx
import pytest

from tests.chaos.arrivals import HOT_SELLER
from tests.chaos.plan import expand
from tests.chaos.pressure import Answers, told
from tests.chaos.profile import PROFILES
from tests.chaos.shopping import Order


def test_half_of_the_rush_is_at_one_merchant() -> None:
    plan = expand(1, PROFILES["smoke"], "sqlite")
    rush = [it for it in plan.arrivals if plan.is_in_rush(it)]
    assert len(rush) >= len(plan.arrivals) // 10
    hot = sum(it.seller == HOT_SELLER for it in rush)
    assert 0.4 * len(rush) < hot < 0.8 * len(rush)


@pytest.mark.asyncio
async def test_answers_of_the_rush_are_told_apart_and_what_was_not_accepted_is_not_lost() -> None:
    plan = expand(1, PROFILES["slice"], "sqlite")
    inside = next(it for it in plan.arrivals if plan.is_in_rush(it) and it.seller == HOT_SELLER)
    outside = next(it for it in plan.arrivals if not plan.is_in_rush(it))
    statuses = {inside.id: [503, 201], outside.id: [201]}
    answers = Answers()
    transport = httpx.MockTransport(
        lambda request: httpx.Response(statuses[request.headers["Idempotency-Key"]].pop(0))
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        answers.listen(client)
        for key in (inside.id, inside.id, outside.id):
            await client.post("/v1/payments", headers={"Idempotency-Key": key})
    orders = [Order(inside, payment_id="pay_1"), Order(outside, payment_id="pay_2")]
    found = told(plan, answers, orders, ended={"pay_1"})
    hot = found["in the rush, where it is"]
    assert (hot["orders"], hot["accepted"], hot["ended"], hot["answered 429 or 503"]) == (1, 1, 1, 1)
    rest = found["before and after"]
    assert (rest["accepted"], rest["ended"], rest["answered 429 or 503"]) == (1, 0, 0)
    assert answers.by_status == {"503": 1, "201": 2}
