"""The sandbox as one ASGI application: `/stripe`, `/lp`, `/merchant` and `/control`."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from corridor.sandbox.clock import Clock
from corridor.sandbox.config import SandboxConfig
from corridor.sandbox.control import control_router
from corridor.sandbox.faults import FaultRules
from corridor.sandbox.liquidity.api import LiquidityDesk, liquidity_router
from corridor.sandbox.merchant import Merchants, merchant_router
from corridor.sandbox.rates import load_rates
from corridor.sandbox.stripe.api import StripeApi
from corridor.sandbox.stripe.challenge import ChallengePages
from corridor.sandbox.stripe.provider import StripeSandbox
from corridor.sandbox.stripe.timers import BATCH
from corridor.sandbox.stripe.webhooks import WebhookPump

TICK_SECONDS = 0.1

logger = logging.getLogger(__name__)


def create_app(config: SandboxConfig) -> FastAPI:
    """Open the books in `config.data_dir` and build the application over them."""
    clock, rules, rates = Clock(), FaultRules(), load_rates(config.market_day)
    stripe = StripeSandbox(config, clock, rules, rates)
    desk = LiquidityDesk(config, clock, rules, rates)
    merchants = Merchants(config.data_dir, clock, config.merchant_secret)
    pump = WebhookPump(stripe)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        background = [asyncio.create_task(pump.run()), asyncio.create_task(_keep_ticking(stripe))]
        yield
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        for books in (stripe.books, desk.books, merchants.books):
            books.close()

    app = FastAPI(title="Corridor provider sandbox", lifespan=lifespan)
    app.include_router(control_router(stripe))
    app.include_router(merchant_router(merchants))
    app.include_router(liquidity_router(desk))
    # First in line, since nearly every request is for them.
    app.router.routes[:0] = [
        *StripeApi(stripe, pump).routes("/stripe/v1"),
        *ChallengePages(stripe).routes("/stripe/3ds"),
    ]
    return app


async def _keep_ticking(stripe: StripeSandbox) -> None:
    while True:
        try:
            ran = await stripe.tick()
        except Exception:
            # One timer that cannot run must not stop time for all others; the log names it.
            logger.exception("a sandbox timer failed")
            ran = 0
        if ran < BATCH:
            await asyncio.sleep(TICK_SECONDS)
