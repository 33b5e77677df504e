"""A worker that starts while Temporal is away waits for it; what waiting does not mend, or a signal, ends the wait."""

import asyncio

import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from corridor.runtime.patience import Stopped, ended_by, until_answered

LIMIT_SECONDS = 30


class Away:
    """Answers after so many failures."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)

    async def ask(self) -> str:
        if self.failures:
            raise self.failures.pop(0)
        return "here"


async def test_a_server_that_is_away_or_busy_is_asked_again() -> None:
    busy = RPCError("busy", RPCStatusCode.RESOURCE_EXHAUSTED, b"")
    away = Away(busy, TimeoutError(), RuntimeError("Failed client connect: `get_system_info` call error"))
    assert await until_answered("it", away.ask, asyncio.Event(), first_pause_seconds=0.01) == "here"


@pytest.mark.parametrize(
    "error", [RPCError("no", RPCStatusCode.PERMISSION_DENIED, b""), RuntimeError("the key ring is empty")]
)
async def test_what_no_waiting_mends_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)):
        await until_answered("it", Away(error).ask, asyncio.Event(), first_pause_seconds=0.01)


async def test_a_real_refused_connection_is_one_that_passes() -> None:
    """The words by which it is known are the client library's."""
    tries: list[int] = []

    async def connect() -> str:
        tries.append(1)
        if len(tries) == 1:
            await Client.connect("127.0.0.1:1")
        return "here"

    assert (
        await until_answered("the connection", connect, asyncio.Event(), first_pause_seconds=0.01) == "here"
    )
    assert len(tries) == 2


async def test_who_waits_for_a_server_ends_when_told_to_in_the_middle_of_a_try_too() -> None:
    stop, asked = asyncio.Event(), asyncio.Event()

    async def hang() -> str:
        asked.set()
        return await asyncio.Future[str]()

    waiting = asyncio.create_task(until_answered("it", hang, stop))
    await asked.wait()
    stop.set()
    with pytest.raises(Stopped):
        await asyncio.wait_for(waiting, LIMIT_SECONDS)
    away = Away(TimeoutError())
    with pytest.raises(Stopped):
        await until_answered("it", away.ask, stop, first_pause_seconds=LIMIT_SECONDS)


async def test_what_still_runs_when_the_grace_is_over_is_cut_off() -> None:
    stop, begun = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        async with ended_by(stop, grace_seconds=0.05), asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())
            begun.set()

    hanging = asyncio.create_task(hang())
    await begun.wait()
    stop.set()
    with pytest.raises(Stopped):
        await asyncio.wait_for(hanging, LIMIT_SECONDS)


async def test_what_ends_inside_the_grace_ends_as_it_would() -> None:
    stop = asyncio.Event()
    stop.set()
    async with ended_by(stop, grace_seconds=LIMIT_SECONDS):
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError, match="its own"):
        async with ended_by(asyncio.Event()):
            raise TimeoutError("its own")
