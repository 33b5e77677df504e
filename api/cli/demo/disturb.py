"""Breaks things while the orders run: a worker is killed without warning, later the API is restarted."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from api.cli.demo.drive import Market
from corridor.runtime.stack import Stack

LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Disturbance:
    """What was done to which process, after how many answered orders, and how long until it was ready again."""

    what: str
    pid: int | None
    after_orders: int
    ready_after_seconds: float


async def disturb(
    stack: Stack, market: Market, order_count: int, say: Callable[[str], None]
) -> list[Disturbance]:
    """Kill the worker at one third of the orders, restart the API at two thirds."""
    await _answered(market, order_count // 3)
    killed = await _done("kill -9 worker", "worker", stack, market, _kill, say)
    await _answered(market, order_count * 2 // 3)
    restarted = await _done("restart API", "api", stack, market, _restart, say)
    return [killed, restarted]


async def _answered(market: Market, count: int) -> None:
    while market.answered < count:  # noqa: ASYNC110 — other people's answers; there is no event to wait for
        await asyncio.sleep(LOOK_SECONDS)


async def _done(
    what: str,
    process: str,
    stack: Stack,
    market: Market,
    act: Callable[[Stack, str], None],
    say: Callable[[str], None],
) -> Disturbance:
    pid, answered = stack.pid(process), market.answered
    say(f"{what} (pid {pid}) after {answered} orders, {market.in_flight} in flight")
    begun = time.monotonic()
    # In a thread: the supervisor waits, and meanwhile the orders go on.
    await asyncio.to_thread(act, stack, process)
    took = time.monotonic() - begun
    say(f"{process} is back after {took:.1f} s (pid {stack.pid(process)})")
    return Disturbance(what, pid, answered, took)


def _kill(stack: Stack, process: str) -> None:
    stack.kill(process)
    stack.wait_ready(process, timeout_seconds=40)


def _restart(stack: Stack, process: str) -> None:
    stack.restart(process)
