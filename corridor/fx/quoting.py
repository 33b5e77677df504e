"""From a question to a quote: ask every liquidity provider at once, then add our markup to the best offer."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from corridor.domain.failure import invariant
from corridor.domain.money import Money
from corridor.domain.quote import Quote, client_amounts
from corridor.fx.best_execution import DEFAULT_GUARDS, Answer, Chosen, Guards, Inquiry, choose
from corridor.fx.port import LiquidityProvider, MidRate, OfferProblem, OfferUnavailable

DEADLINE_SECONDS = 1.5
"""What a buyer may wait for a rate. Without any offer the payment fails, so a busy moment must not look like silence."""


async def best_offer(
    providers: Sequence[LiquidityProvider],
    reference: MidRate,
    sell: Money,
    buy_currency: str,
    lock_seconds: int,
    *,
    asked_at: datetime,
    deadline_seconds: float = DEADLINE_SECONDS,
    guards: Guards = DEFAULT_GUARDS,
) -> Chosen:
    """Ask all `providers` at once under one deadline; a slow one is recorded as silent and delays nobody.

    `asked_at` is the caller's clock; answers are timed from it. Raises `Refused(RATE_UNAVAILABLE)`.
    """
    inquiry = Inquiry(sell, buy_currency, lock_seconds, reference, asked_at, guards)
    answers = await asyncio.gather(*(_ask(provider, inquiry, deadline_seconds) for provider in providers))
    return choose(inquiry, answers)


async def _ask(provider: LiquidityProvider, inquiry: Inquiry, deadline_seconds: float) -> Answer:
    clock = asyncio.get_running_loop().time
    begun = clock()

    def answer(problem: OfferProblem, detail: str) -> Answer:
        return Answer(provider.name, round((clock() - begun) * 1000), None, problem, detail)

    try:
        async with asyncio.timeout(deadline_seconds):
            offer = await provider.quote(inquiry.sell, inquiry.buy_currency, inquiry.lock_seconds)
    except TimeoutError:
        return answer(OfferProblem.SILENT, f"no answer within {deadline_seconds} s")
    except OfferUnavailable as unavailable:
        return answer(unavailable.reason, unavailable.detail)
    except Exception as error:  # noqa: BLE001 - an adapter's bug is evidence here and costs no other offer
        return answer(OfferProblem.FAILED, type(error).__name__)
    return Answer(provider.name, round((clock() - begun) * 1000), offer)


def build_quote(
    chosen: Chosen, *, quote_id: str, merchant_id: str, markup_bps: int, lock_seconds: int, now: datetime
) -> Quote:
    """The merchant's quote: the provider's mid less the provider's spread and our markup. Pure.

    It ends with the provider's offer or after `lock_seconds`, whichever is earlier: we never promise longer than
    we were promised. Raises `Refused(AMOUNT_OUT_OF_RANGE)` when rounding leaves nothing: that is not offered.
    """
    invariant(markup_bps >= 0, "a markup is not negative")
    offer = chosen.offer
    spread_bps = offer.spread_bps + markup_bps
    client_rate, bought, at_mid = client_amounts(offer.sell, offer.mid, spread_bps, offer.buy_currency)
    return Quote(
        id=quote_id,
        merchant_id=merchant_id,
        sell_amount=offer.sell,
        buy_amount=bought,
        mid_amount=at_mid,
        client_rate=client_rate,
        mid_rate=offer.mid,
        mid_source=offer.provider,
        mid_as_of=offer.mid_as_of,
        spread_bps=spread_bps,
        liquidity_provider=offer.provider,
        liquidity_reference=offer.reference,
        lock_seconds=lock_seconds,
        valid_from=now,
        expires_at=min(offer.expires_at, now + timedelta(seconds=lock_seconds)),
        considered=chosen.considered,
    )
