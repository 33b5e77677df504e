"""A worker process: workflows, activities and the relay. `python -m workers`, as many as there are cores."""

import asyncio
import signal
from datetime import timedelta

import structlog

from corridor.runtime import client as temporal_client
from corridor.runtime import logging, readiness, telemetry
from corridor.runtime.settings import Settings, load
from workers import fleet, schedules, wiring
from workers.relay import relay
from workflows.starts import Windows

log = structlog.get_logger(__name__)


async def work(settings: Settings, stop: asyncio.Event) -> None:
    """Run until `stop` is set; then calls under way are finished before the process ends."""
    telling = telemetry.start(settings, "worker")
    wired = wiring.build(settings)
    try:
        client = await temporal_client.connect(
            settings, interceptors=telling.interceptors, runtime=telling.runtime, identity=fleet.identity()
        )
        windows = Windows(
            settle_within_seconds=settings.settle_within_days * 86_400,
            action_window_seconds=settings.action_window_seconds,
        )
        async with fleet.running(
            wired, client, timedelta(seconds=settings.worker_grace_seconds), settings.workflow_sandbox
        ):
            await schedules.ensure(client, wired.edge.providers.names, settings)
            readiness.announce(settings)
            log.info("worker is ready", providers=wired.edge.providers.names)
            await relay.run(
                wired.edge.database, client, wired.edge.providers, stop, windows, wired.edge.now
            )
    finally:
        await wired.close()
        telling.close()


async def _main() -> None:
    settings = load()
    logging.configure(settings, "worker")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await work(settings, stop)


if __name__ == "__main__":
    asyncio.run(_main())
