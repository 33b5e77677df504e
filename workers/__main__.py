"""A worker process: workflows, activities and the relay. `python -m workers`, as many as there are cores."""

import asyncio
import signal
from datetime import timedelta

import structlog
from temporalio.client import Client

from corridor.runtime import build, clock, logging, metrics, readiness, telemetry
from corridor.runtime import client as temporal_client
from corridor.runtime.loop import Loop, keep_turning
from corridor.runtime.patience import Stopped, ended_by, until_answered
from corridor.runtime.settings import Settings, load
from workers import fleet, wiring
from workers.builds.keeper import Keeper, without_builds
from workers.relay import relay
from workers.schedules import Schedules
from workers.wiring import Wiring
from workflows.starts import Windows

SCHEDULES_LOOKED_AT_SECONDS = 60.0
CLOCK_LOOKED_AT_SECONDS = 60.0
RATES_LOOKED_AT_SECONDS = 60.0

log = structlog.get_logger(__name__)


async def work(settings: Settings, stop: asyncio.Event) -> None:
    """Run until `stop` is set; then nothing new is taken, and what is under way has `worker_grace_seconds` to end."""
    telling = telemetry.start(settings, "worker")
    metrics.asyncio_tasks(asyncio.get_running_loop())
    wired = wiring.build(settings)
    try:
        async with ended_by(stop):
            await clock.require_agreement(wired.edge.database, settings.clock_apart_limit_seconds)
            await wired.rates.begin()
        client = await until_answered(
            "the connection",
            lambda: temporal_client.connect(
                settings,
                interceptors=telling.interceptors,
                runtime=telling.runtime,
                identity=fleet.identity(),
            ),
            stop,
        )
        await _serve(settings, wired, client, stop)
    except Stopped:
        log.info("stopped before it was ready")
    finally:
        await wired.close()
        telling.close()


async def _serve(settings: Settings, wired: Wiring, client: Client, stop: asyncio.Event) -> None:
    for provider in wired.edge.providers.names:
        metrics.proof_contradicted(provider, times=0)
    build_id = build.build_id(settings) if settings.worker_versioning else None
    async with fleet.running(
        wired,
        client,
        timedelta(seconds=settings.worker_grace_seconds),
        sandboxed=settings.workflow_sandbox,
        build=fleet.of_build(build_id) if build_id else None,
        stop=stop,
    ):
        keepers = await until_answered(
            "which build is current", lambda: _keepers(client, build_id, wired, settings), stop
        )
        ours = Schedules(client, wired.edge.providers.names, settings, build_id)
        await until_answered("schedules", ours.turn, stop)
        readiness.announce(settings)
        log.info("worker is ready", providers=wired.edge.providers.names, build_id=build_id)
        try:
            await _turn([*keepers, _schedules(ours)], wired, client, settings, stop)
        except Stopped:
            log.warning("turns under way were cut off; another process takes them up")


async def _turn(
    keepers: list[Loop], wired: Wiring, client: Client, settings: Settings, stop: asyncio.Event
) -> None:
    """Every loop until `stop`. Raises `Stopped` if one still turns when the grace is over: a turn may die anywhere."""
    windows = Windows(
        settle_within_seconds=settings.settle_within_days * 86_400,
        action_window_seconds=settings.action_window_seconds,
    )
    edge = wired.edge
    async with ended_by(stop, settings.worker_grace_seconds), asyncio.TaskGroup() as group:
        group.create_task(_withdraw(settings, stop), name="readiness")
        own = (_clock(wired, settings), _rates(wired))
        for loop in (*keepers, *own):
            group.create_task(keep_turning(loop, stop), name=loop.name)
        await relay.run(edge.database, client, edge.providers, stop, windows, edge.now)


async def _withdraw(settings: Settings, stop: asyncio.Event) -> None:
    await stop.wait()
    readiness.withdraw(settings)


async def _keepers(client: Client, build_id: str | None, wired: Wiring, settings: Settings) -> list[Loop]:
    """Returns once payments are dispatched; the loop sees to it that they stay so. Without a build: no loop."""
    if build_id is None:
        await without_builds(client, settings.worker_takes_over)
        return []
    keeper = Keeper(client, build_id, wired.edge.providers.names, settings.worker_takes_over)
    await keeper.begin()
    return [Loop("keeper", keeper.turn, busy_seconds=1.0, idle_seconds=5.0)]


def _schedules(ours: Schedules) -> Loop:
    seconds = SCHEDULES_LOOKED_AT_SECONDS
    return Loop("schedules", ours.turn, busy_seconds=seconds, idle_seconds=seconds)


def _clock(wired: Wiring, settings: Settings) -> Loop:
    """A clock that goes wrong later is told, not acted upon: what is under way here is looked up before it is judged."""

    async def turn() -> int:
        apart = await clock.measure(wired.edge.database, settings.clock_apart_limit_seconds)
        if apart is not None:
            log.error("clocks apart", detail=apart)
        return 0

    return Loop("clock", turn, busy_seconds=CLOCK_LOOKED_AT_SECONDS, idle_seconds=CLOCK_LOOKED_AT_SECONDS)


def _rates(wired: Wiring) -> Loop:
    """One worker of all downloads what was published; each reads it from the database."""
    seconds = RATES_LOOKED_AT_SECONDS
    return Loop("rates", wired.rates.turn, busy_seconds=seconds, idle_seconds=seconds)


async def _main() -> None:
    settings = load()
    logging.configure(settings, "worker")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await work(settings, stop)
    except clock.ClockApart as apart:
        raise SystemExit(f"{apart}; no work was taken. Then start the worker again") from None


if __name__ == "__main__":
    asyncio.run(_main())
