"""A worker that tells how much it holds: `python -m benchmarks.scale.watched_worker`, until SIGTERM.

The workers of the product and its relay, with a workflow cache of the size that is asked for, so that a short run
reaches what a long one would. It appends a line of JSON to the file it is given, every second.
"""

import asyncio
import gc
import json
import os
import signal
import sys
import time
from pathlib import Path

import psutil

from corridor.runtime import client as temporal_client
from corridor.runtime import logging, readiness
from corridor.runtime.settings import Settings, load
from workers import fleet, wiring
from workers.builds.keeper import without_builds
from workers.relay import relay

SAMPLES, CACHED = "CORRIDOR_SCALE_SAMPLES", "CORRIDOR_SCALE_CACHED"
PERIOD_SECONDS = 1.0


async def work(settings: Settings, samples: Path, cached: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    wired = wiring.build(settings)
    client = await temporal_client.connect(settings, identity=fleet.identity())
    await without_builds(client, takes_over=True)
    edge = wired.edge
    async with (
        fleet.running(wired, client, fleet.GRACE, cached_workflows=cached),
        asyncio.TaskGroup() as group,
    ):
        group.create_task(relay.run(edge.database, client, edge.providers, stop))
        group.create_task(_tell(samples, stop))
        readiness.announce(settings)
    await wired.close()


async def _tell(samples: Path, stop: asyncio.Event) -> None:
    me = psutil.Process()
    while not stop.is_set():
        gc.collect()  # what is garbage is no growth
        line = {
            "at": time.time(),
            "megabytes": me.memory_info().rss / 2**20,
            "tasks": len(asyncio.all_tasks()),
            "blocks": sys.getallocatedblocks(),
            "descriptors": me.num_fds(),
            "threads": me.num_threads(),
        }
        with samples.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        await asyncio.sleep(PERIOD_SECONDS)


def main() -> None:
    settings = load()
    logging.configure(settings, "worker")
    asyncio.run(work(settings, Path(os.environ[SAMPLES]), int(os.environ[CACHED])))


if __name__ == "__main__":
    main()
