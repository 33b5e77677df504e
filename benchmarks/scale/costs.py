"""What one payment's transactions cost in databases of different sizes: wall time of each step, processor of all.

The databases take turns, payment by payment, so that all of them meet the same weather on the machine. The payments
are the hot merchant's, whose history is the longest.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime

from benchmarks.scale.fill import Filled
from benchmarks.scale.steps import Clock, Order, Steps, sale_key, steps_on
from benchmarks.scale.weighing import Weighed
from corridor.domain.money import Money
from corridor.domain.outcome import Outcome
from corridor.runtime.settings import Settings

AMOUNT = Money(10_000, "EUR")
WARM_UP = 5
TRANSACTIONS = ("accept", "prepare", "execute and record", "read the answer", "settle")
"""What the merchant's payment itself does; the provider's report row and the relay's turn are listed beside it."""
WHOLE, PROCESSOR = "one payment", "one payment, processor"


@contextlib.asynccontextmanager
async def benches(filled: Sequence[Filled], settings: Settings) -> AsyncIterator[list[tuple[Filled, Steps]]]:
    """Steps on each of the databases."""
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for one in filled:
            wired, steps = steps_on(settings, one.url, Clock(datetime.now(UTC)))
            stack.push_async_callback(wired.close)
            found.append((one, steps))
        yield found


async def measure(
    filled: Sequence[Filled], settings: Settings, count: int, say: Callable[[str], None]
) -> list[Weighed]:
    """Carry `count` payments in each database from acceptance to settlement."""
    weighed: dict[str, Weighed] = {}
    async with benches(filled, settings) as found:
        for number in range(-WARM_UP, count):
            for one, steps in found:
                lap = Lap(weighed if number >= 0 else {}, one.payments)
                await _carry(steps, Order(one.hot.id, AMOUNT, f"cost-{number + WARM_UP}"), lap)
        say(f"{count} payments carried in each of {len(found)} databases")
    return list(weighed.values())


class Lap:
    """Notes how long each step of one payment took."""

    def __init__(self, into: dict[str, Weighed], size: int) -> None:
        self._into, self._size = into, size
        self._all = self._used = 0.0

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        begun, used = time.perf_counter(), time.process_time()
        yield
        seconds = time.perf_counter() - begun
        if name in TRANSACTIONS:
            self._all += seconds
            self._used += time.process_time() - used
        self._note(name, seconds)

    def end(self) -> None:
        self._note(WHOLE, self._all)
        self._note(PROCESSOR, self._used)

    def _note(self, name: str, seconds: float) -> None:
        self._into.setdefault(name, Weighed(name)).seconds[self._size].append(seconds)


async def _carry(steps: Steps, order: Order, lap: Lap) -> None:
    steps.clock.moment = datetime.now(UTC)
    with lap.step("accept"):
        row = await steps.accept(order)
    with lap.step("prepare"):
        await steps.prepare(row)
    with lap.step("execute and record"):
        await steps.execute(sale_key(row.id), Outcome.APPROVED)
    with lap.step("read the answer"):
        await steps.answer(row.id)
    with lap.step("stage its report row"):
        await steps.report(row)
    with lap.step("settle"):
        await steps.settle(row)
    with lap.step("place and dispatch its events"):
        await steps.place()
    lap.end()
    await steps.deliver()
