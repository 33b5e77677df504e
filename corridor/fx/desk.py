"""The desk: one place to ask what a conversion costs now, from reference rates and liquidity providers."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.domain.quote import Quote
from corridor.fx.best_execution import Chosen
from corridor.fx.ecb import EcbRates
from corridor.fx.market import Market
from corridor.fx.port import LiquidityProvider, MidRate, NoOffer
from corridor.fx.quoting import DEADLINE_SECONDS, best_offer, build_quote

PAUSES_SECONDS = (0.2, 0.6)
"""Before the market is asked again; with the deadlines it stays well inside the step that asks."""


@dataclass(frozen=True)
class Desk:
    """Reference rates of the market day, and everybody who may be asked to deal."""

    providers: Sequence[LiquidityProvider]
    rates: EcbRates
    market: Market
    deadline_seconds: float = DEADLINE_SECONDS
    """How long a quote waits for the slowest provider; a provider that is later is recorded as silent."""

    async def ask(self, sell: Money, buy_currency: str, lock_seconds: int, now: datetime) -> Chosen:
        """The best offer with every answer as evidence. Raises `Refused(RATE_UNAVAILABLE)`.

        A moment in which nobody could be reached must not cost a sale: it is asked again, a few times.
        """
        reference = self.rates.rate(sell.currency, buy_currency, self.market.day(now))
        for pause_seconds in PAUSES_SECONDS:
            try:
                return await self._ask_once(sell, buy_currency, lock_seconds, reference, now)
            except NoOffer as nobody:
                if not nobody.passing:
                    raise
            await asyncio.sleep(pause_seconds)
        return await self._ask_once(sell, buy_currency, lock_seconds, reference, now)

    async def _ask_once(
        self, sell: Money, buy_currency: str, lock_seconds: int, reference: MidRate, now: datetime
    ) -> Chosen:
        return await best_offer(
            self.providers,
            reference,
            sell,
            buy_currency,
            lock_seconds,
            asked_at=now,
            deadline_seconds=self.deadline_seconds,
        )

    def quote(
        self, chosen: Chosen, merchant_id: str, markup_bps: int, lock_seconds: int, now: datetime
    ) -> Quote:
        """The merchant's quote on top of the best offer. Raises `Refused(AMOUNT_OUT_OF_RANGE)`."""
        return build_quote(
            chosen,
            quote_id=new_id(Prefix.QUOTE, now),
            merchant_id=merchant_id,
            markup_bps=markup_bps,
            lock_seconds=lock_seconds,
            now=now,
        )

    def per_euro(self, now: datetime) -> tuple[date, dict[str, Decimal]]:
        """(as_of, units per 1 EUR) of the market day, for valuation. Raises `Refused(RATE_UNAVAILABLE)`."""
        as_of, figures = self.rates.per_euro(self.market.day(now))
        return as_of, dict(figures)
