"""Claims about the HTTP liquidity provider: against our own sandbox's desk, and against answers that lie."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from corridor.domain.money import Money
from corridor.fx.ecb import EcbRates
from corridor.fx.liquidity_http import HttpLiquidityProvider
from corridor.fx.port import AcceptUnknown, OfferProblem, OfferUnavailable
from corridor.fx.quoting import best_offer, build_quote
from corridor.sandbox.clock import Clock
from corridor.sandbox.config import SandboxConfig
from corridor.sandbox.faults import FaultRules
from corridor.sandbox.liquidity.api import LiquidityDesk, liquidity_router
from corridor.sandbox.rates import load_rates

SELL = Money(10_000, "EUR")
FRIDAY = date(2026, 10, 30)
NOW = datetime(2026, 11, 1, 9, tzinfo=UTC)
QUOTED: dict[str, Any] = {
    "quote_id": "atlq_1",
    "lp": "atlas",
    "sell_currency": "EUR",
    "buy_currency": "CNY",
    "side": "sell",
    "sell_amount": "100.00",
    "rate": "7.427137468",
    "mid": "7.4326",
    "mid_as_of": "2026-10-30",
    "spread_bps": "6",
    "premium_bps": "1.35",
    "expires_at": "2026-11-01T09:05:00.000Z",
    "minimum": {"amount": "1", "currency": "EUR"},
}
QUOTED["rate"] = format(Decimal("7.4326") * (1 - Decimal("7.35") / 10_000), "f")


def answering(answer: Callable[[httpx.Request], httpx.Response]) -> HttpLiquidityProvider:
    return HttpLiquidityProvider("atlas", "http://lp.test/lp/atlas/", transport=httpx.MockTransport(answer))


def saying(status: int, body: Any) -> HttpLiquidityProvider:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return answering(lambda _request: httpx.Response(status, content=content))


async def problem_of(provider: HttpLiquidityProvider) -> OfferProblem:
    with pytest.raises(OfferUnavailable) as unavailable:
        await provider.quote(SELL, "CNY", 300)
    assert unavailable.value.provider == "atlas"
    return unavailable.value.reason


async def test_the_question_travels_as_decimal_text_to_the_quotes_endpoint() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(201, json=QUOTED)

    await answering(answer).quote(SELL, "CNY", 300)
    assert str(asked[0].url) == "http://lp.test/lp/atlas/v1/quotes"
    assert json.loads(asked[0].content) == {
        "sell_currency": "EUR",
        "buy_currency": "CNY",
        "side": "sell",
        "amount": "100.00",
        "lock_seconds": 300,
    }


async def test_the_offer_keeps_every_digit_and_rounds_the_spread_against_us() -> None:
    given = await saying(201, QUOTED).quote(SELL, "CNY", 300)
    assert (given.mid, given.rate) == (Decimal("7.4326"), Decimal(QUOTED["rate"]))
    assert given.spread_bps == 8, "7.35 basis points: eight, or the client is promised more than we get"
    assert (given.minimum, given.mid_as_of) == (Money(100, "EUR"), "2026-10-30")
    assert given.expires_at == NOW + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ({"sell_currency": "USD"}, OfferProblem.OTHER_PAIR),
        ({"buy_currency": "JPY"}, OfferProblem.OTHER_PAIR),
        ({"sell_amount": "10.00"}, OfferProblem.OTHER_PAIR),
        ({"side": "buy"}, OfferProblem.MALFORMED),
        ({"rate": 7.4}, OfferProblem.MALFORMED),
        ({"rate": "NaN"}, OfferProblem.MALFORMED),
        ({"rate": "Infinity"}, OfferProblem.MALFORMED),
        ({"rate": "0"}, OfferProblem.MALFORMED),
        ({"rate": "-7.4"}, OfferProblem.MALFORMED),
        ({"mid": "7.4e0"}, OfferProblem.MALFORMED),
        ({"expires_at": "2026-11-01T09:05:00"}, OfferProblem.MALFORMED),
        ({"quote_id": ""}, OfferProblem.MALFORMED),
        ({"mid_as_of": "yesterday"}, OfferProblem.MALFORMED),
        ({"spread_bps": "5"}, OfferProblem.INCONSISTENT),
        ({"rate": "7.43"}, OfferProblem.INCONSISTENT),
        ({"spread_bps": "20000"}, OfferProblem.INCONSISTENT),
    ],
)
async def test_an_answer_that_does_not_fit_is_no_offer(lie: dict[str, Any], reason: OfferProblem) -> None:
    assert await problem_of(saying(201, QUOTED | lie)) is reason


async def test_whether_an_offer_is_over_is_for_whoever_asked_to_judge() -> None:
    """A worker whose clock is an hour ahead would find every offer over; `judge` goes by the clock it was asked by."""
    given = await saying(201, QUOTED | {"expires_at": "2020-01-01T00:00:00.000Z"}).quote(SELL, "CNY", 300)
    assert given.expires_at == datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "missing", ["quote_id", "rate", "mid", "mid_as_of", "spread_bps", "expires_at", "sell_amount"]
)
async def test_a_missing_field_is_never_assumed(missing: str) -> None:
    assert (
        await problem_of(saying(201, {k: v for k, v in QUOTED.items() if k != missing}))
        is OfferProblem.MALFORMED
    )


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (422, {"error": {"code": "pair_not_quoted", "message": "no"}}, OfferProblem.DECLINED),
        (422, {"error": {"code": "lock_too_long", "message": "no"}}, OfferProblem.LOCK_TOO_SHORT),
        (422, {"error": {"code": "amount_too_small", "message": "no"}}, OfferProblem.BELOW_MINIMUM),
        (401, b"<html>", OfferProblem.DECLINED),
        (302, b"", OfferProblem.DECLINED),
        (503, {"error": {"code": "provider_error", "message": "no"}}, OfferProblem.UNREACHABLE),
        (201, b"{\xff\xfe", OfferProblem.MALFORMED),
        (201, b"[]", OfferProblem.MALFORMED),
    ],
)
async def test_a_refusal_keeps_its_meaning(status: int, body: Any, reason: OfferProblem) -> None:
    assert await problem_of(saying(status, body)) is reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (httpx.ReadTimeout("slow"), OfferProblem.SILENT),
        (httpx.ConnectError("down"), OfferProblem.UNREACHABLE),
        (httpx.RemoteProtocolError("half an answer"), OfferProblem.UNREACHABLE),
    ],
)
async def test_a_broken_connection_is_no_offer(error: Exception, reason: OfferProblem) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    assert await problem_of(answering(fail)) is reason


FILL = {"quote_id": "atlq_1", "reference": "pay_1:fx:1"}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {"error": {"code": "provider_error"}}),
        (503, b""),
        (429, b""),
        (200, b"garbage"),
        (200, {**FILL, "quote_id": "other"}),
        (200, {**FILL, "reference": "pay_2:fx:1"}),
    ],
)
async def test_an_acceptance_without_proof_is_unknown_not_refused(status: int, body: Any) -> None:
    with pytest.raises(AcceptUnknown):
        await saying(status, body).accept("atlq_1", "pay_1:fx:1")


async def test_a_timeout_after_acceptance_is_unknown() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("bytes have left")

    with pytest.raises(AcceptUnknown):
        await answering(fail).accept("atlq_1", "pay_1:fx:1")


async def test_an_acceptance_that_was_never_sent_is_no_deal() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("down")

    with pytest.raises(OfferUnavailable):
        await answering(fail).accept("atlq_1", "pay_1:fx:1")


# --- the sandbox's two houses, over HTTP ---------------------------------------------------------------------


class Desk:
    """The sandbox's desk behind an in-process HTTP transport."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        config = SandboxConfig(data_dir=directory)
        self.desk = LiquidityDesk(config, self.clock, FaultRules(), load_rates(FRIDAY))
        application = FastAPI()
        application.include_router(liquidity_router(self.desk))
        self.transport = httpx.ASGITransport(application)

    def house(self, name: str) -> HttpLiquidityProvider:
        return HttpLiquidityProvider(name, f"http://sandbox.test/lp/{name}", transport=self.transport)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize(
    ("sell", "buy"),
    [(SELL, "CNY"), (Money(5_000, "JPY"), "EUR"), (Money(250_000, "KRW"), "GBP"), (SELL, "TRY")],
)
async def test_both_houses_answers_become_a_quote(desk: Desk, sell: Money, buy: str) -> None:
    reference = EcbRates().rate(sell.currency, buy, FRIDAY)
    now = datetime.now(UTC)
    chosen = await best_offer(
        [desk.house("atlas"), desk.house("borealis")],
        reference,
        sell,
        buy,
        120,
        asked_at=now,
        deadline_seconds=10,
    )
    quote = build_quote(
        chosen, quote_id="qte_1", merchant_id="mer_1", markup_bps=30, lock_seconds=120, now=now
    )
    assert [found["provider"] for found in chosen.considered[1:]] == ["atlas", "borealis"]
    assert quote.liquidity_provider in ("atlas", "borealis")
    assert now < quote.expires_at <= now + timedelta(seconds=120)


async def test_a_deal_is_made_once_and_repeating_it_is_the_same_deal(desk: Desk) -> None:
    atlas = desk.house("atlas")
    offer = await atlas.quote(SELL, "CNY", 120)
    await atlas.accept(offer.reference, "pay_1:fx:1")
    await atlas.accept(offer.reference, "pay_1:fx:1")
    with pytest.raises(OfferUnavailable) as refused:
        await atlas.accept(offer.reference, "pay_2:fx:1")
    assert refused.value.detail == "quote_already_used"


async def test_a_deal_after_expiry_is_refused_as_expired(desk: Desk) -> None:
    atlas = desk.house("atlas")
    offer = await atlas.quote(SELL, "CNY", 120)
    desk.clock.advance(121)
    with pytest.raises(OfferUnavailable) as refused:
        await atlas.accept(offer.reference, "pay_1:fx:1")
    assert refused.value.reason is OfferProblem.EXPIRED
