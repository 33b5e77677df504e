"""What grows with a process's age is told from what goes up and down with its work."""

import asyncio
import os
import time
from collections.abc import Callable
from random import Random

import pytest

from tests.chaos import leaks
from tests.chaos.leaks import Sample

LIVES = 60


def _lives(held: Callable[[float, Random], int], what: str = "descriptors") -> dict[str, list[Sample]]:
    """As a run makes them: most processes die young, and none is idle."""
    random = Random(7)  # noqa: S311 — repeatable, not secret
    found = []
    for number in range(LIVES):
        age = 1.0 + random.expovariate(1 / 15.0)
        counts = {"descriptors": 60, "threads": 30, "memory_mb": 200, "tasks": 40}
        counts[what] = held(age, random)
        found.append(Sample(number, age_seconds=age, **counts))
    return {"worker": found}


@pytest.mark.parametrize("what", ["descriptors", "tasks", "threads"])
def test_one_that_is_lost_again_and_again_is_noticed_in_the_middle_of_the_work(what: str) -> None:
    """Three a second: over a life that is less than the work itself goes up and down."""
    lives = _lives(lambda age, random: 50 + random.randint(0, 60) + round(3 * age), what)
    found = leaks.nothing_grows_with_age(lives)
    assert not found.holds
    assert f"more {what}" in found.counterexamples[0]


def test_what_only_follows_the_work_is_no_leak() -> None:
    lives = _lives(lambda _, random: 50 + random.randint(0, 60))
    assert leaks.nothing_grows_with_age(lives).holds


def test_a_pool_that_fills_up_and_stays_is_no_leak() -> None:
    lives = _lives(lambda age, random: 50 + min(40, round(8 * age)) + random.randint(0, 30))
    assert leaks.nothing_grows_with_age(lives).holds


def test_the_callers_that_come_back_to_an_api_are_no_leak_of_it() -> None:
    (worker,) = _lives(lambda age, random: 50 + random.randint(0, 60) + round(3 * age), "tasks").values()
    assert leaks.nothing_grows_with_age({"api": worker}).holds


def test_of_few_lives_nothing_is_said() -> None:
    lives = {"api": [Sample(n, 60 + 100 * n, 30, 200, 40, 10.0 + n) for n in range(5)]}
    found = leaks.nothing_grows_with_age(lives)
    assert found.holds
    assert found.notes == ("api: 5 lives are too few to tell",)


def test_a_process_is_looked_at_as_it_is() -> None:
    found = leaks.of(os.getpid(), 3)
    assert found is not None
    assert (found.pid, found.tasks) == (os.getpid(), 3)
    assert found.descriptors > 0
    assert 0 < found.age_seconds < time.monotonic()


def test_tasks_that_stay_are_seen_when_all_is_quiet() -> None:
    before, after = Sample(1, 60, 30, 200, tasks=20), Sample(2, 60, 30, 200, tasks=200)
    found = leaks.nothing_grew({"api": before}, {"api": after})
    assert found.counterexamples == ("api: 20 tasks became 200",)
    assert leaks.nothing_grew(
        {"temporal": Sample(1, 60, 30, 200)}, {"temporal": Sample(2, 60, 30, 200)}
    ).holds


def test_a_page_for_prometheus_tells_the_tasks() -> None:
    page = '# TYPE corridor_asyncio_tasks gauge\ncorridor_asyncio_tasks{otel_scope_name="corridor"} 23.0\n'
    assert leaks.tasks_told(page) == 23
    assert leaks.tasks_told("corridor_reviews 1.0\n") is None
    assert asyncio.run(_own_tasks()) == 2


async def _own_tasks() -> int:
    """The measurement itself: the tasks of one loop, whoever asks from another thread."""
    from corridor.runtime import metrics

    asked: list[Callable[..., object]] = []
    forgotten = asyncio.create_task(asyncio.sleep(60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            metrics._meter, "create_observable_gauge", lambda _name, callbacks, **_: asked.extend(callbacks)
        )
        metrics.asyncio_tasks(asyncio.get_running_loop())
    (observe,) = asked
    (observation,) = await asyncio.to_thread(lambda: list(observe(None)))  # type: ignore[call-overload]
    forgotten.cancel()
    return int(observation.value)
