"""Some at once: never more than allowed, in the order given, and nothing left running after a failure."""

import asyncio

import pytest

from corridor.runtime.side_by_side import side_by_side


class Crowd:
    """Counts who is under way."""

    def __init__(self, refuses: int | None = None) -> None:
        self.now = self.most = 0
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self._refuses = refuses

    async def one(self, item: int) -> int:
        self.begun.append(item)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            # The later an item is begun, the sooner it is over: results come in another order than items.
            for _ in range(20 - 2 * item):
                await asyncio.sleep(0)
            if item == self._refuses:
                raise ConnectionRefusedError(item)
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise
        finally:
            self.now -= 1
        return item * item


async def test_as_many_at_once_as_allowed_and_results_in_the_order_given() -> None:
    crowd = Crowd()
    assert await side_by_side(range(10), crowd.one, 4) == [(it, it * it) for it in range(10)]
    assert crowd.most == 4


async def test_nothing_to_do_is_done() -> None:
    assert await side_by_side([], Crowd().one, 4) == []


async def test_a_failure_is_raised_as_it_is_and_ends_those_beside_it() -> None:
    crowd = Crowd(refuses=3)
    with pytest.raises(ConnectionRefusedError):
        await side_by_side(range(10), crowd.one, 4)
    assert crowd.now == 0
    assert crowd.begun == [0, 1, 2, 3]
    assert crowd.cancelled == [0, 1, 2]


async def test_cancelling_it_ends_those_under_way() -> None:
    crowd = Crowd()
    running = asyncio.create_task(side_by_side(range(10), crowd.one, 4))
    while crowd.now < 4:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert crowd.now == 0
    assert crowd.begun == [0, 1, 2, 3]
