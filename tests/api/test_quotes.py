"""Quotes over HTTP."""

import asyncio

from tests.api.conftest import Stand

BODY = {"sell": {"minor": 10_000, "currency": "EUR"}, "buy_currency": "CNY", "lock_seconds": 60}


async def test_quote_is_made_once_per_key(stand: Stand) -> None:
    first = await stand.post("/v1/quotes", BODY, key="q1")
    again = await stand.post("/v1/quotes", BODY, key="q1")
    assert first.status_code == 201 and again.content == first.content
    assert again.headers["Idempotent-Replayed"] == "true" and stand.quotes.asked == 1
    quote = first.json()
    assert quote["mid_rate"] == "7.5" and quote["client_rate"] == "7.4700"
    assert (quote["buy"]["minor"], quote["spread"]["minor"]) == (74_700, 300)
    assert (await stand.get(f"/v1/quotes/{quote['id']}")).json() == quote


async def test_parallel_repeats_get_one_quote(stand: Stand) -> None:
    answers = await asyncio.gather(*(stand.post("/v1/quotes", BODY, key="q1") for _ in range(5)))
    assert len({answer.content for answer in answers}) == 1


async def test_other_body_under_the_key_is_refused(small_stand: Stand) -> None:
    await small_stand.post("/v1/quotes", BODY, key="q1")
    answer = await small_stand.post("/v1/quotes", {**BODY, "lock_seconds": 61}, key="q1")
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


async def test_quote_past_its_lock_is_shown_as_expired(small_stand: Stand) -> None:
    quote = (await small_stand.post("/v1/quotes", BODY)).json()
    small_stand.clock.advance(60)
    assert (await small_stand.get(f"/v1/quotes/{quote['id']}")).json()["status"] == "expired"


async def test_quote_within_one_currency_is_refused(small_stand: Stand) -> None:
    answer = await small_stand.post("/v1/quotes", {**BODY, "buy_currency": "EUR"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


async def test_another_merchants_quote_does_not_exist(small_stand: Stand) -> None:
    quote = (await small_stand.post("/v1/quotes", BODY)).json()
    assert (await small_stand.get(f"/v1/quotes/{quote['id']}", who="other")).status_code == 404
