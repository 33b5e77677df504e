"""A liquidity provider over HTTP: ask for a firm quote, deal on it. What it answers is believed only if it fits.

`POST {base}/v1/quotes` {sell_currency, buy_currency, side, amount, lock_seconds} → 201 with the quote;
`POST {base}/v1/quotes/{id}/accept` {reference} → 200 with the fill, idempotent by our reference.
Amounts and rates travel as decimal strings; a JSON number there is refused, since it may have been rounded already.
"""

import re
from datetime import date
from decimal import ROUND_CEILING, Decimal, localcontext
from typing import Annotated, Literal
from urllib.parse import quote as url_quoted

import httpx
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from corridor.domain.currency import exponent
from corridor.domain.money import Money
from corridor.fx.port import AcceptUnknown, Offer, OfferProblem, OfferUnavailable

_DECIMAL = re.compile(r"\d{1,18}(\.\d{1,18})?")
_CONSISTENCY = Decimal("1E-8")
"""Relative difference left to the provider's own rounding to ten significant digits."""

_REFUSALS = {
    "lock_too_long": OfferProblem.LOCK_TOO_SHORT,
    "amount_too_small": OfferProblem.BELOW_MINIMUM,
    "quote_expired": OfferProblem.EXPIRED,
}
"""The provider's codes that mean something of their own to us; every other refusal is `declined`."""


def _from_text(value: object) -> Decimal:
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise ValueError("a decimal is written as plain text")
    return Decimal(value)


Exact = Annotated[Decimal, BeforeValidator(_from_text)]


class _Size(BaseModel):
    amount: Exact
    currency: str


class _Quoted(BaseModel):
    """The fields we rely on; a provider may add others."""

    model_config = ConfigDict(extra="ignore")

    quote_id: str = Field(min_length=1, max_length=128)
    sell_currency: str
    buy_currency: str
    side: Literal["sell"]
    sell_amount: Exact
    rate: Exact = Field(gt=0)
    mid: Exact = Field(gt=0)
    mid_as_of: date
    spread_bps: Exact
    premium_bps: Exact = Decimal(0)
    expires_at: AwareDatetime
    minimum: _Size | None = None


class _Filled(BaseModel):
    model_config = ConfigDict(extra="ignore")

    quote_id: str
    reference: str


class _Problem(BaseModel):
    code: str
    message: str = ""


class _Failed(BaseModel):
    error: _Problem


_QUOTED = TypeAdapter(_Quoted)
_FILLED = TypeAdapter(_Filled)
_FAILED = TypeAdapter(_Failed)


class HttpLiquidityProvider:
    """`LiquidityProvider` over the HTTP API at `base_url` (without `/v1`), with a connection pool of its own."""

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        timeout_seconds: float = 2.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`timeout_seconds` bounds one call; a quote's own, shorter deadline is the asker's (`quoting`)."""
        self.name = name
        self._base_url = base_url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._client = httpx.AsyncClient(transport=transport)

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    async def quote(self, sell: Money, buy_currency: str, lock_seconds: int) -> Offer:
        """Ask for a firm quote of a fixed sell amount. Raises `OfferUnavailable`."""
        asked = {
            "sell_currency": sell.currency,
            "buy_currency": buy_currency,
            "side": "sell",
            "amount": str(sell.major()),
            "lock_seconds": lock_seconds,
        }
        try:
            response = await self._client.post(
                f"{self._base_url}/v1/quotes", json=asked, timeout=self._timeout_seconds
            )
        except httpx.TimeoutException as error:
            raise self._unavailable(OfferProblem.SILENT, type(error).__name__) from error
        except httpx.HTTPError as error:
            raise self._unavailable(OfferProblem.UNREACHABLE, type(error).__name__) from error
        if response.status_code >= 500:
            raise self._unavailable(OfferProblem.UNREACHABLE, f"HTTP {response.status_code}")
        if not response.is_success:
            raise self._refused(response)
        return self._offer(response, sell, buy_currency)

    async def accept(self, reference: str, our_reference: str) -> None:
        """Deal on the quote. After `AcceptUnknown` ask again with the same two references: it is one deal."""
        try:
            response = await self._client.post(
                f"{self._base_url}/v1/quotes/{url_quoted(reference, safe='')}/accept",
                json={"reference": our_reference},
                headers={"Idempotency-Key": our_reference},
                timeout=self._timeout_seconds,
            )
        except httpx.ConnectError as error:
            raise self._unavailable(OfferProblem.UNREACHABLE, type(error).__name__) from error
        except httpx.HTTPError as error:
            raise AcceptUnknown(f"{self.name}: {type(error).__name__}") from error
        if (
            response.status_code in (408, 409, 429) and self._code(response) is None
        ) or response.status_code >= 500:
            raise AcceptUnknown(f"{self.name}: HTTP {response.status_code}")
        if not response.is_success:
            raise self._refused(response)
        self._require_fill(response, reference, our_reference)

    def _offer(self, response: httpx.Response, sell: Money, buy_currency: str) -> Offer:
        """Whether it is over already is for whoever asked to judge, by the clock they asked by (`best_execution`)."""
        try:
            answer = _QUOTED.validate_json(response.content)
        except ValidationError as error:
            fields = sorted({".".join(map(str, issue["loc"])) for issue in error.errors(include_input=False)})
            raise self._unavailable(OfferProblem.MALFORMED, f"not a quote: {' '.join(fields)}") from error
        if (answer.sell_currency, answer.buy_currency, answer.sell_amount) != (
            sell.currency, buy_currency, sell.major(),
        ):  # fmt: skip
            raise self._unavailable(OfferProblem.OTHER_PAIR, "the quote is for another pair or amount")
        return Offer(
            provider=self.name,
            reference=answer.quote_id,
            sell=sell,
            buy_currency=buy_currency,
            rate=answer.rate,
            mid=answer.mid,
            mid_as_of=answer.mid_as_of.isoformat(),
            spread_bps=self._spread_bps(answer),
            expires_at=answer.expires_at,
            minimum=_minimum(answer.minimum, sell.currency),
        )

    def _spread_bps(self, answer: _Quoted) -> int:
        """Spread and premium in whole basis points, rounded up; refused if they do not lead from mid to rate."""
        stated = answer.spread_bps + answer.premium_bps
        with localcontext() as context:
            context.prec = 50
            implied = answer.mid * (1 - stated / 10_000)
            if abs(implied - answer.rate) > answer.rate * _CONSISTENCY:
                raise self._unavailable(OfferProblem.INCONSISTENT, "mid less spread is not the rate")
        return int(stated.to_integral_value(rounding=ROUND_CEILING))

    def _require_fill(self, response: httpx.Response, reference: str, our_reference: str) -> None:
        """An unreadable 200 is no proof of a deal, and none that there was none."""
        try:
            fill = _FILLED.validate_json(response.content)
        except ValidationError as error:
            raise AcceptUnknown(f"{self.name}: the answer is not a fill") from error
        if (fill.quote_id, fill.reference) != (reference, our_reference):
            raise AcceptUnknown(f"{self.name}: the fill is another deal's")

    def _refused(self, response: httpx.Response) -> OfferUnavailable:
        code = self._code(response)
        return self._unavailable(
            _REFUSALS.get(code or "", OfferProblem.DECLINED), code or f"HTTP {response.status_code}"
        )

    def _code(self, response: httpx.Response) -> str | None:
        try:
            return _FAILED.validate_json(response.content).error.code[:64]
        except ValidationError:
            return None

    def _unavailable(self, reason: OfferProblem, detail: str) -> OfferUnavailable:
        return OfferUnavailable(self.name, reason, detail)


def _minimum(stated: _Size | None, sell_currency: str) -> Money | None:
    """Only a minimum in the sell currency can be checked here; others the provider enforces itself."""
    if stated is None or stated.currency != sell_currency:
        return None
    minor = stated.amount.scaleb(exponent(sell_currency)).to_integral_value(rounding=ROUND_CEILING)
    return Money(int(minor), sell_currency)
