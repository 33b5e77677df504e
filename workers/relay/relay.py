"""All relay loops of one process. Any number of processes may run them at once, and each may die at any point."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from temporalio.client import Client

from corridor.ledger.seal import seal
from corridor.providers.registry import Registry
from corridor.runtime.loop import Loop, keep_turning
from corridor.storage.database import Database
from workers.relay.dispatcher import Dispatcher
from workers.relay.inbox import InboxRouter
from workers.relay.orphans import OrphanStarter
from workers.relay.providers import ProviderWatch
from workers.relay.sequencer import Sequencer
from workers.relay.watch import Watch
from workflows.starts import DEFAULT_WINDOWS, Windows

SEAL_BATCH = 500


def utc_now() -> datetime:
    """The edge's clock."""
    return datetime.now(UTC)


async def run(
    database: Database,
    client: Client,
    providers: Registry,
    stop: asyncio.Event,
    windows: Windows = DEFAULT_WINDOWS,
    clock: Callable[[], datetime] = utc_now,
) -> None:
    """Run every loop until `stop` is set; turns under way are finished first. `windows` must be the API's."""
    async with asyncio.TaskGroup() as group:
        for loop in loops(database, client, providers, windows, clock):
            group.create_task(keep_turning(loop, stop), name=f"relay {loop.name}")


def loops(
    database: Database,
    client: Client,
    providers: Registry,
    windows: Windows,
    clock: Callable[[], datetime],
) -> tuple[Loop, ...]:
    """Merchants wait for the first three, so these look often; every look that finds nothing is one cheap read."""

    async def seal_postings() -> int:
        return (await database.write(seal, clock(), SEAL_BATCH)).count

    return (
        Loop("sequencer", Sequencer(database).turn, busy_seconds=0.05, idle_seconds=0.25),
        Loop("dispatcher", Dispatcher(database, client, clock).turn, busy_seconds=0.05, idle_seconds=0.5),
        Loop("inbox", InboxRouter(database, client, clock).turn, busy_seconds=0.1, idle_seconds=0.5),
        Loop(
            "orphans",
            OrphanStarter(database, client, windows, clock).turn,
            busy_seconds=1.0,
            idle_seconds=5.0,
        ),
        Loop("providers", ProviderWatch(database, providers, clock).turn, busy_seconds=2.0, idle_seconds=2.0),
        Loop("sealer", seal_postings, busy_seconds=1.0, idle_seconds=10.0),
        Loop("watch", Watch(database, clock).turn, busy_seconds=5.0, idle_seconds=10.0),
    )
