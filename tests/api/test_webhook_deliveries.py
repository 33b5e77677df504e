"""Webhook deliveries over HTTP: a merchant sees its own, newest first, and what became of each attempt."""

from typing import Any

from corridor.storage import webhook_deliveries
from tests.api.conftest import Stand, order

PATH = "/v1/webhook_deliveries"


async def endpoint(stand: Stand, who: str = "merchant") -> str:
    answer = await stand.post("/v1/webhook_endpoints", {"url": "https://shop.example/hooks"}, who=who)
    return str(answer.json()["id"])


async def delivering(stand: Stand, who: str = "merchant") -> list[str]:
    """Ids of the deliveries of a new payment's first event: one for each endpoint of its merchant."""
    paid = (await stand.post("/v1/payments", order(), who=who)).json()
    event = (await stand.get(f"/v1/payments/{paid['id']}/events", who=who)).json()["data"][0]
    merchant_id = stand.merchant_id if who == "merchant" else stand.other_id
    return await stand.database.write(
        webhook_deliveries.create_for_event, event["id"], merchant_id, event["type"], stand.clock()
    )


async def pages(stand: Stand, **params: Any) -> list[str]:
    """Ids of all pages, two to a page."""
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await stand.get(PATH, limit=2, **params, **cursor)).json()
        seen += [delivery["id"] for delivery in page["data"]]
        if not page["has_more"]:
            assert page["next_cursor"] is None
            return seen
        cursor = {"starting_after": page["next_cursor"]}


async def test_list_pages_through_every_delivery_once_newest_first(stand: Stand) -> None:
    first, second = await endpoint(stand), await endpoint(stand)
    made = []
    for _ in range(3):
        stand.clock.advance(1)
        made.append(await delivering(stand))
    newest_first = [delivery_id for pair in reversed(made) for delivery_id in sorted(pair, reverse=True)]
    assert await pages(stand) == newest_first
    of_first, of_second = await pages(stand, endpoint=first), await pages(stand, endpoint=second)
    assert (len(of_first), len(of_second)) == (3, 3)
    assert sorted(of_first + of_second) == sorted(newest_first)


async def test_a_delivery_tells_of_its_attempts(stand: Stand) -> None:
    where = await endpoint(stand)
    (delivery_id,) = await delivering(stand)
    (pending,) = (await stand.get(PATH)).json()["data"]
    assert (pending["endpoint"], pending["status"], pending["attempts"]) == (where, "pending", 0)
    await stand.database.write(
        webhook_deliveries.record_failure,
        delivery_id,
        1,
        stand.clock(),
        status_code=None,
        error="no connection",
        next_attempt_at=None,
    )
    (failed,) = (await stand.get(PATH)).json()["data"]
    assert (failed["status"], failed["attempts"], failed["last_error"]) == ("failed", 1, "no connection")
    assert failed["next_attempt_at"] is None


async def test_another_merchants_deliveries_do_not_exist(stand: Stand) -> None:
    theirs = await endpoint(stand, "other")
    (delivery_id,) = await delivering(stand, "other")
    assert [it["id"] for it in (await stand.get(PATH, who="other")).json()["data"]] == [delivery_id]
    assert await pages(stand) == await pages(stand, endpoint=theirs) == []


async def test_a_cursor_is_bound_to_its_merchant_and_endpoint(small_stand: Stand) -> None:
    where = await endpoint(small_stand)
    await delivering(small_stand)
    await delivering(small_stand)
    cursor = (await small_stand.get(PATH, limit=1)).json()["next_cursor"]
    for who, params in (("other", {}), ("merchant", {"endpoint": where})):
        answer = await small_stand.get(PATH, who=who, starting_after=cursor, **params)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")
