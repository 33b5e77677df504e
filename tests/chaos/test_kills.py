"""A kill counts when it ended a process: not when another had, and not when what comes up had hardly begun."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from corridor.runtime.process import Program, Supervisor
from tests.chaos.faults import processes
from tests.chaos.faults.performer import Performer, lines
from tests.chaos.journal import Journal
from tests.chaos.plan import Act, Kind, expand
from tests.chaos.profile import PROFILES

AT_ONCE = 6


class Running:
    """One real child below a real supervisor, as the stand has five."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    def pid(self, name: str) -> int | None:
        return self.supervisor.pid(name)

    def kill(self, name: str, pid: int) -> bool:
        return self.supervisor.kill(name, pid)


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(processes, "WORKS_AFTER_SECONDS", 0.0)
    supervisor = Supervisor(tmp_path / "run", lambda _: None)
    supervisor.open()
    idle = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
    supervisor.add(Program("api", idle, dict(os.environ), tmp_path / "api.log", lambda: True))
    yield Running(supervisor)
    supervisor.close()


async def test_of_many_at_once_one_kills_and_the_others_say_that_it_was_gone(running: Running) -> None:
    while running.pid("api") is None:
        await asyncio.sleep(0.01)
    found = await asyncio.gather(*(processes.kill(running, "api") for _ in range(AT_ONCE)))
    killed = [note for fired, note in found if fired]
    assert killed
    assert len(set(killed)) == len(killed), "no process dies twice"
    assert all("was gone already" in note for fired, note in found if not fired)


async def test_kills_that_found_nobody_are_tried_again_and_each_ends_a_process_of_its_own(
    running: Running, tmp_path: Path
) -> None:
    """As after an outage: all of them are there at the same moment."""
    acts = [Act(0.0, Kind.KILL, "api", {}) for _ in range(AT_ONCE)]
    journal = Journal(tmp_path / "events.jsonl")
    performer = Performer(cast(Any, _stand(running, tmp_path)), cast(Any, None), journal, cast(Any, None))
    await performer.perform(acts)
    journal.close()
    assert [it.fired for it in journal.entries] == [True] * AT_ONCE
    assert len({it.note for it in journal.entries}) == AT_ONCE


async def test_what_has_hardly_begun_is_not_killed(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "WORKS_AFTER_SECONDS", 600.0)
    monkeypatch.setattr(processes, "APPEARS_WITHIN_SECONDS", 0.3)
    assert await processes.kill(running, "api") == (False, "was not up")


async def test_a_pause_of_a_process_that_is_gone_is_none(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    while (pid := running.pid("api")) is None:
        await asyncio.sleep(0.01)
    process = psutil.Process(pid)
    running.supervisor.kill("api")
    monkeypatch.setattr(processes, "_at_work", lambda *_: _now(process))
    fired, note = await processes.pause(running, "api", 0.0)
    assert (fired, note) == (False, f"pid {pid} was gone already")


async def test_a_pause_that_a_kill_cut_short_says_so(running: Running) -> None:
    while (pid := running.pid("api")) is None:
        await asyncio.sleep(0.01)
    pausing = asyncio.create_task(processes.pause(running, "api", 1.0))
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        await asyncio.sleep(0.01)
    assert running.supervisor.kill("api", pid)
    assert await pausing == (True, f"pid {pid} for 1.0 s, killed meanwhile")


def test_what_comes_late_moves_as_fast_as_the_plan() -> None:
    plan = expand(1, PROFILES["smoke"], "sqlite")
    counts = Counter((act.kind, act.target) for act in plan.acts)
    found = lines(plan.acts)
    assert set(found) == set(counts)
    line = found[Kind.KILL, "api"]
    waits = [line.wait() for _ in range(counts[Kind.KILL, "api"])]
    assert waits[-1] <= plan.profile.safety_seconds < 1.05 * line.wait()


async def _now(process: Any) -> Any:
    return process


def _stand(running: Running, directory: Path) -> SimpleNamespace:
    settings = SimpleNamespace(data_dir=directory / "installation")
    return SimpleNamespace(pid=running.pid, kill=running.kill, settings=settings)
