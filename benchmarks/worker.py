"""The worker process of one contender: `python -m benchmarks.worker bare|sealed|payment`, until SIGTERM."""

import asyncio
import contextlib
import signal
import sys

from temporalio.client import Client

from benchmarks import bare, instant
from corridor.runtime import client as temporal_client
from corridor.runtime import logging, readiness
from corridor.runtime.settings import Settings, load
from workers import fleet


async def work(contender: str, settings: Settings) -> None:
    """Poll until a signal arrives. `sealed` is the bare workflow behind our data converter."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        if contender == "payment":
            wired = instant.wire(settings)
            stack.push_async_callback(wired.close)
            client = await temporal_client.connect(settings)
            await stack.enter_async_context(fleet.running(wired, client, fleet.GRACE))
        else:
            for worker in bare.workers(await _client(contender, settings)):
                await stack.enter_async_context(worker)
        readiness.announce(settings)
        await stop.wait()


async def _client(contender: str, settings: Settings) -> Client:
    if contender == "sealed":
        return await temporal_client.connect(settings)
    return await Client.connect(**temporal_client.connection(settings))


def main() -> None:
    settings = load()
    logging.configure(settings, "worker")
    asyncio.run(work(sys.argv[1], settings))


if __name__ == "__main__":
    main()
