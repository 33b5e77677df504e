"""The door under trouble, on a whole installation: a provider that is down, an API that is restarted."""

import itertools
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psutil
import pytest

from tests.e2e.installation import Installation, order, payments, until_answered


@pytest.mark.timeout(150)
def test_a_provider_that_is_down_is_said_at_the_door_and_an_api_that_restarts_answers_who_waits(
    installation: Installation,
) -> None:
    installation.up()
    key = installation.merchant_key()
    with frozen(process(installation, "corridor.sandbox")):
        number, refused = until_refused(installation, key)
        assert refused.json()["money_state"] == "not_moved"
        assert int(refused.headers["Retry-After"]) > 0
    assert until_answered(installation, key, number)["status"] in ("captured", "settled")

    with ThreadPoolExecutor(1) as pool, frozen(process(installation, "workers")):
        known = len(payments(installation, key))
        waiting = pool.submit(order, installation, key, 1000)
        until_more_than(known, installation, key)
        process(installation, "api").terminate()
        accepted = waiting.result()
        assert accepted is not None
        assert accepted.status_code == 202, accepted.text
    assert until_answered(installation, key, 1000)["id"] == accepted.json()["id"]


def process(here: Installation, module: str) -> psutil.Process:
    """The child of the installation that runs this module."""
    assert here.process is not None
    children = psutil.Process(here.process.pid).children()
    (found,) = [child for child in children if child.cmdline()[-2:] == ["-m", module]]
    return found


def until_more_than(known: int, here: Installation, key: str) -> None:
    """Until one more payment is accepted; whoever made it is answered (202) after ten seconds at the latest."""
    deadline = time.monotonic() + 9
    while len(payments(here, key)) == known:
        assert time.monotonic() < deadline, "the order was not accepted"
        time.sleep(0.1)


@contextmanager
def frozen(one: psutil.Process) -> Iterator[None]:
    """It lives, holds its connections, and does nothing."""
    one.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        one.send_signal(signal.SIGCONT)


def until_refused(here: Installation, key: str) -> tuple[int, httpx.Response]:
    """Orders, each with a key of its own, until one is refused; and its number."""
    deadline = time.monotonic() + 40
    with ThreadPoolExecutor(8) as pool:
        for number in itertools.count(1):
            answer = pool.submit(order, here, key, number)
            time.sleep(0.5)
            if answer.done() and (refused := answer.result()) is not None and refused.status_code == 503:
                return number, refused
            assert time.monotonic() < deadline, "the door stayed open"
    raise AssertionError("counting never ends")
