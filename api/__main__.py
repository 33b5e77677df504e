"""The API process: `python -m api`."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

import structlog

from api.admission import PolicyAdmission
from api.app import create_app
from api.dependencies import ApiDependencies
from api.gateway import TemporalGateway
from api.server import Farewell, server_of
from corridor.domain.money import Money
from corridor.domain.quote import Quote
from corridor.fx.desk import Desk
from corridor.runtime import client, clock, logging, metrics, telemetry
from corridor.runtime.loop import Loop, keep_turning
from corridor.runtime.settings import Settings, load
from corridor.storage import merchants
from corridor.storage.database import Database
from workers import wiring
from workflows.starts import Windows

RATES_SECONDS = 60.0
"""How often rates that a worker has stored are read."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class DeskQuotes:
    """Quotes from the FX desk, at the merchant's own markup."""

    desk: Desk
    database: Database

    async def quote(
        self, merchant_id: str, sell: Money, buy_currency: str, lock_seconds: int, now: datetime
    ) -> Quote:
        """Raises `Refused` (RATE_UNAVAILABLE, AMOUNT_OUT_OF_RANGE)."""
        merchant = await self.database.read(merchants.get, merchant_id)
        chosen = await self.desk.ask(sell, buy_currency, lock_seconds, now)
        return self.desk.quote(chosen, merchant_id, merchant.fx_markup_bps, lock_seconds, now)


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Temporal may come later: until it answers, new work gets 503."""
    telling = telemetry.start(settings, "api")
    metrics.asyncio_tasks(asyncio.get_running_loop())
    wired = wiring.build(settings)
    try:
        await clock.require_agreement(wired.edge.database, settings.clock_apart_limit_seconds)
        await wired.rates.begin()
        connected = await client.connect(
            settings, interceptors=telling.interceptors, runtime=telling.runtime, lazy=True
        )
        windows = Windows(
            settle_within_seconds=settings.settle_within_days * 86_400,
            action_window_seconds=settings.action_window_seconds,
        )
        edge = wired.edge
        gateway = TemporalGateway(connected, windows)
        dependencies = ApiDependencies(
            database=edge.database,
            gateway=gateway,
            settings=settings,
            quotes=DeskQuotes(edge.desk, edge.database),
            admission=PolicyAdmission(edge.policies, edge.desk.per_euro),
            registry=edge.providers,
            sealer=wired.sealer,
            clock=edge.now,
        )
        log.info("api listens", address=settings.api_address)
        app = create_app(dependencies)

        def close() -> None:
            app.state.is_closing = True

        farewell = Farewell(settings.api_drain_seconds, close, gateway.leave)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(
                keep_turning(Loop("rates", wired.rates.refresh, RATES_SECONDS, RATES_SECONDS), stop)
            )
            try:
                await server_of(app, settings, settings.api_port, farewell).serve()
            finally:
                stop.set()
    finally:
        await wired.close()
        telling.close()


def main() -> None:
    settings = load()
    logging.configure(settings, "api")
    try:
        asyncio.run(serve(settings))
    except clock.ClockApart as apart:
        raise SystemExit(f"{apart}; nothing was accepted. Then start the API again") from None


if __name__ == "__main__":
    main()
