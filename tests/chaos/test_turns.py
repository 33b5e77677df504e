"""Who may strike when, and who shares whose work."""

import asyncio
from pathlib import Path
from unittest.mock import MagicMock, Mock

import pytest

from tests.chaos.faults.performer import Performer
from tests.chaos.faults.turns import Line, Shared, Turns
from tests.chaos.journal import Journal
from tests.chaos.plan import Act, Kind
from tests.chaos.shopping import Street
from tests.chaos.watch import Watch


async def test_whoever_wants_to_be_alone_waits_for_the_others_and_keeps_the_next_out() -> None:
    turns, done = Turns(), []
    may_end = asyncio.Event()

    async def beside(name: str) -> None:
        async with turns.beside():
            done.append(f"{name} begins")
            await may_end.wait()
            done.append(f"{name} ends")

    async def alone() -> None:
        async with turns.alone():
            done.append("alone")
            await asyncio.sleep(0)

    async def later() -> None:
        await turns.begin()
        done.append("later")

    async with asyncio.TaskGroup() as group:
        group.create_task(beside("first"))
        await asyncio.sleep(0.01)
        group.create_task(alone())
        await asyncio.sleep(0.01)
        group.create_task(later())
        await asyncio.sleep(0.01)
        assert done == ["first begins"]
        may_end.set()
    assert done == ["first begins", "first ends", "alone", "later"]


async def test_those_who_ask_while_the_work_runs_share_the_next_run() -> None:
    begun, may_end = 0, asyncio.Event()

    async def work() -> int:
        nonlocal begun
        begun += 1
        mine = begun
        await may_end.wait()
        return mine

    shared = Shared(work)
    first = asyncio.create_task(shared.done())
    await asyncio.sleep(0)
    later = [asyncio.create_task(shared.done()) for _ in range(5)]
    await asyncio.sleep(0)
    may_end.set()
    assert await first == 1
    assert await asyncio.gather(*later) == [2] * 5
    assert await shared.done() == 3, "what was done before cannot know of what came after"


async def test_a_run_that_failed_is_made_again_for_the_next() -> None:
    tries = 0

    async def work() -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise TimeoutError
        return "done"

    shared = Shared(work)
    with pytest.raises(TimeoutError):
        await shared.done()
    assert await shared.done() == "done"


async def test_who_begins_is_told_whether_somebody_was_alone() -> None:
    turns = Turns()
    assert not await turns.begin()
    async with turns.alone():
        late = asyncio.create_task(turns.begin())
        await asyncio.sleep(0)
    assert await late


def test_what_was_held_back_comes_one_after_another() -> None:
    now = 100.0
    line = Line(10.0, clock=lambda: now)
    assert [line.wait() for _ in range(3)] == [0.0, 10.0, 20.0]
    now = 115.0
    assert line.wait() == 15.0, "behind the three"
    now = 200.0
    assert line.wait() == 0.0, "nobody is before it any more"


async def test_how_long_the_others_were_kept_out_is_known() -> None:
    now = 100.0
    turns = Turns(clock=lambda: now)
    for seconds in (30.0, 12.0):
        async with turns.alone():
            now += seconds
        now += 5.0
    assert turns.held_seconds == 42.0


async def test_the_plan_stands_still_while_somebody_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    performer = Performer(MagicMock(), Mock(spec=Street), journal, Mock(spec=Watch))
    struck_at = list[float]()

    async def strike(self: Performer, act: Act) -> None:
        struck_at.append(journal.seconds)

    monkeypatch.setattr(Performer, "_act", strike)
    acts = [Act(seconds, Kind.KILL, "api", {}) for seconds in (0.0, 0.1, 0.2)]
    async with asyncio.TaskGroup() as group, performer.turns.alone():
        group.create_task(performer.perform(acts))
        await asyncio.sleep(0.3)
        assert len(struck_at) == 1, "only what was due before"
    journal.close()
    second, third = struck_at[1:]
    assert second >= 0.4
    assert third - second >= 0.05, "one blow is not made of two"
