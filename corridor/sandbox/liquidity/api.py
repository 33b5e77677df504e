"""HTTP of the two liquidity providers: `/lp/{house}/v1/quotes`, `…/accept`, `…/fills`."""

import asyncio
import re
import sqlite3
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from corridor.sandbox.books import Books
from corridor.sandbox.clock import Clock
from corridor.sandbox.config import SandboxConfig
from corridor.sandbox.fault_answers import Misfortune, garbled
from corridor.sandbox.faults import FaultKind, FaultRules, Occasion
from corridor.sandbox.liquidity import quotes
from corridor.sandbox.liquidity.houses import HOUSES, House
from corridor.sandbox.liquidity.prices import price
from corridor.sandbox.rates import ReferenceRates

Document = dict[str, Any]
AMOUNT = re.compile(r"^[0-9]{1,15}(\.[0-9]{1,5})?$")


class QuoteRequest(BaseModel):
    """`amount` is a decimal string in major units, fixed on `side`."""

    model_config = ConfigDict(extra="forbid")
    sell_currency: str = Field(pattern="^[A-Z]{3}$")
    buy_currency: str = Field(pattern="^[A-Z]{3}$")
    side: Literal["sell", "buy"] = "sell"
    amount: str = Field(pattern=AMOUNT.pattern)
    lock_seconds: int = Field(default=60, ge=1)


class AcceptRequest(BaseModel):
    """`reference` is the client's own; it makes acceptance idempotent."""

    model_config = ConfigDict(extra="forbid")
    reference: str = Field(min_length=1, max_length=128)


class LiquidityDesk:
    """Both houses over one file of books."""

    def __init__(self, config: SandboxConfig, clock: Clock, rules: FaultRules, rates: ReferenceRates) -> None:
        self.config, self.clock, self.rules, self.rates = config, clock, rules, rates
        self.books = Books(config.data_dir / "liquidity.sqlite", quotes.SCHEMA)

    async def quote(self, house: House, asked: QuoteRequest) -> Document:
        """A firm quote at this second's price."""
        request = quotes.Request(
            asked.sell_currency, asked.buy_currency, asked.side, Decimal(asked.amount), asked.lock_seconds
        )
        now_ms = self.clock.milliseconds()
        quotes.check_request(house, request, self.rates)
        asking = price(
            self.rates, house, self.config.liquidity_seed, request.sell_currency, request.buy_currency,
            now_ms // 1000, request.lock_seconds,
        )  # fmt: skip
        if asking is None:
            raise quotes.Refusal(422, "pair_not_quoted", "no price")
        quote = quotes.make_quote(house, request, asking, self.rates, now_ms)
        expires_ms = now_ms + request.lock_seconds * 1000
        await self.books.run(lambda connection: quotes.save_quote(connection, house, quote, expires_ms))
        return quote

    async def answer(
        self, house: House, verb: str, key: str, work: Callable[[], Any], *, status: int = 200
    ) -> Response:
        """Run one call under the fault rules of `lp.<house>.<verb>`."""
        bad_luck = Misfortune(self.rules.claim(Occasion(f"lp.{house.name}.{verb}", key)))
        early = await bad_luck.before(self.config.hold_seconds)
        if early is not None:
            return early
        try:
            _refuse(bad_luck, house)
            body = await work()
            _fail_after_effect(bad_luck)
            response: Response = JSONResponse(body, status)
        except quotes.Refusal as refusal:
            response = JSONResponse(
                {"error": {"code": refusal.code, "message": refusal.message}}, refusal.status
            )
        if bad_luck.has(FaultKind.GARBAGE_BODY):
            response = Response(
                garbled(bytes(response.body)), response.status_code, media_type="application/json"
            )
        return bad_luck.after(self.config.hold_seconds) or response

    async def read(self, unit: Callable[[sqlite3.Connection], Document]) -> Document:
        """A unit on the books."""
        return await self.books.run(unit)


def liquidity_router(desk: LiquidityDesk) -> APIRouter:
    """The same four endpoints for each house."""
    router = APIRouter(tags=["liquidity"])
    for house in HOUSES.values():
        _add_house(router, desk, house)
    return router


def _add_house(router: APIRouter, desk: LiquidityDesk, house: House) -> None:
    prefix = f"/lp/{house.name}/v1"

    @router.post(f"{prefix}/quotes", status_code=201)
    async def create_quote(request: Annotated[QuoteRequest, Body()]) -> Response:
        """Ask for a firm quote."""
        await asyncio.sleep(house.latency_milliseconds / 1000)
        return await desk.answer(house, "quote", "", lambda: desk.quote(house, request), status=201)

    @router.get(f"{prefix}/quotes/{{quote_id}}")
    async def get_quote(quote_id: str) -> Response:
        """A quote as it stands now."""

        def unit(connection: sqlite3.Connection) -> Document:
            return quotes.read_quote(connection, house, quote_id, desk.clock.milliseconds())

        return await desk.answer(house, "get_quote", "", lambda: desk.read(unit))

    @router.post(f"{prefix}/quotes/{{quote_id}}/accept")
    async def accept_quote(
        quote_id: str, request: AcceptRequest, idempotency_key: Annotated[str, Header()] = ""
    ) -> Response:
        """Deal; idempotent by reference."""

        def unit(connection: sqlite3.Connection) -> Document:
            return quotes.accept(connection, house, quote_id, request.reference, desk.clock.milliseconds())

        await asyncio.sleep(house.latency_milliseconds / 1000)
        key = idempotency_key or request.reference
        return await desk.answer(house, "accept", key, lambda: desk.read(unit))

    @router.get(f"{prefix}/fills")
    async def list_fills(
        reference: str | None = None,
        after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """Fills, by the client's reference if asked: the inquiry after an unknown accept."""

        def unit(connection: sqlite3.Connection) -> Document:
            return {
                "data": quotes.find_fills(connection, house, reference=reference, after=after, limit=limit)
            }

        return await desk.answer(house, "list_fills", "", lambda: desk.read(unit))


def _refuse(bad_luck: Misfortune, house: House) -> None:
    if bad_luck.has(FaultKind.NO_QUOTE):
        raise quotes.Refusal(422, "pair_not_quoted", f"{house.name} does not quote this pair now")
    error = bad_luck.get(FaultKind.STATUS)
    if error is not None and not error.effect:
        raise quotes.Refusal(error.status, "provider_error", "the desk is unavailable")


def _fail_after_effect(bad_luck: Misfortune) -> None:
    error = bad_luck.get(FaultKind.STATUS)
    if error is not None and error.effect:
        raise quotes.Refusal(error.status, "provider_error", "the desk is unavailable")
