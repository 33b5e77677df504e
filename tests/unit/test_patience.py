"""A worker that starts while Temporal is away waits for it, and ends only over what waiting does not mend."""

import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from corridor.runtime.patience import until_answered


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
    assert await until_answered("it", away.ask, first_pause_seconds=0.01) == "here"


@pytest.mark.parametrize(
    "error", [RPCError("no", RPCStatusCode.PERMISSION_DENIED, b""), RuntimeError("the key ring is empty")]
)
async def test_what_no_waiting_mends_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)):
        await until_answered("it", Away(error).ask, first_pause_seconds=0.01)


async def test_a_real_refused_connection_is_one_that_passes() -> None:
    """The words by which it is known are the client library's."""
    tries: list[int] = []

    async def connect() -> str:
        tries.append(1)
        if len(tries) == 1:
            await Client.connect("127.0.0.1:1")
        return "here"

    assert await until_answered("the connection", connect, first_pause_seconds=0.01) == "here"
    assert len(tries) == 2
