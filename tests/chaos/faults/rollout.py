"""A rollout in the middle of everything (F15): one worker comes back as the next build, the other follows later.

The next build is a copy of the tree whose payments take one step more, behind `workflow.patched` as the house rule
is. Commands are the product's own: `corridor deploy promote`, and `deploy adopt` for what is pinned to the build that
nobody runs any more.
"""

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Protocol

from temporalio.service import RPCError

from corridor.runtime import client as temporal_client
from corridor.runtime.build import source_digest
from corridor.runtime.settings import Settings
from tests.chaos.desk import Desk
from tests.chaos.faults.turns import Turns
from tests.e2e.second_build import PACKAGES
from workers.builds import deployment
from workers.builds.deployment import Build, State

Json = dict[str, Any]

PATIENCE_SECONDS = 600.0
"""What is pinned to a build that nobody runs any more stands still until these commands went through."""
PAUSE_SECONDS = 2.0
_BEGINS = "            prepared = await prepare(self.state, self.approved_review)\n"
_STORY = "workflows/payment.py"


class Fleet(Protocol):
    """What a rollout needs of the installation."""

    settings: Settings
    source: Path
    desk: Desk

    def run_build(self, name: str, environment: Mapping[str, str]) -> None:
        """Restart a worker with these variables of its own; it keeps them when it is killed."""
        ...


def draw(random: Random, number: int, of: int, safety_seconds: float) -> tuple[float, str, Json]:
    """When, which worker goes first, and after how long the other follows: the rollouts share the time evenly."""
    turn = safety_seconds / of
    at = (number + random.uniform(0.12, 0.3)) * turn
    follows = random.uniform(0.2, 0.35) * turn
    return round(at, 3), random.choice(("worker", "worker-2")), {"seconds": round(follows, 1)}


class Rollouts:
    """The builds of a run, one after the other, each on top of the one before."""

    def __init__(self, fleet: Fleet, turns: Turns) -> None:
        self._fleet, self._turns = fleet, turns
        self._directory = fleet.settings.data_dir.parent / "builds"
        self._turn = asyncio.Lock()
        self._older: list[str] = []

    async def roll_out(self, first: str, follows_after_seconds: float) -> tuple[bool, str]:
        """One worker, promotion, the other worker, adoption: (new payments began on the new build, how it went)."""
        async with self._turn:
            before = source_digest(self._fleet.source)
            tree = await self._made()
            own = {"PYTHONPATH": str(tree)}
            await asyncio.to_thread(self._fleet.run_build, first, own)
            promoted = await self._command(tree, "promote")
            await asyncio.sleep(follows_after_seconds)
            other = "worker" if first == "worker-2" else "worker-2"
            await asyncio.to_thread(self._fleet.run_build, other, own)
            self._fleet.source = tree
            self._older.append(before)
            adopted = await self._settle()
            return promoted is not None, f"{before} → {source_digest(tree)}: {promoted}; {adopted}"

    async def settle(self) -> str:
        """Once more when the faults are over: what a lost Temporal or a kill in between left on an older build."""
        async with self._turn:
            return await self._settle() if self._older else ""

    async def _settle(self) -> str:
        """The newest build is current, also after a store that was lost chose another; nothing waits for an older."""
        tree, said = self._fleet.source, list[str | None]()
        known = await self._known()
        if not known:
            return "the server never told which builds there are"
        if not any(it.build_id == source_digest(tree) and it.state is State.CURRENT for it in known):
            said.append(await self._command(tree, "promote"))
        for older in (it for it in known if it.build_id in self._older and it.pinned):
            said.append(await self._command(tree, "adopt", older.build_id, "--force"))
        return "; ".join(filter(None, said)) or "nothing is left on an older build"

    async def _known(self) -> list[Build]:
        """The server's answer, which on a busy machine it refuses for a while. Empty: it never answered."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                return await deployment.builds(await temporal_client.connect(self._fleet.settings))
            except (RPCError, RuntimeError):
                await asyncio.sleep(PAUSE_SECONDS)
        return []

    async def _made(self) -> Path:
        """On the same disk as everything else, which may be full for some seconds."""
        while True:
            try:
                return await asyncio.to_thread(self._make)
            except OSError:
                await asyncio.sleep(PAUSE_SECONDS)

    def _make(self) -> Path:
        """The next build's tree: the last one with one step more at the beginning of a payment."""
        number = len(self._older) + 2
        tree = self._directory / str(number)
        for package in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(self._fleet.source / package, tree / package, ignore=ignored, dirs_exist_ok=True)
        story = tree / _STORY
        text = story.read_text("utf-8")
        if text.count(_BEGINS) != 1:
            raise AssertionError(f"{_STORY} no longer begins with its preparation")
        story.write_text(text.replace(_BEGINS, _a_step_more(number) + _BEGINS), "utf-8")
        return tree

    async def _command(self, tree: Path, *words: str) -> str | None:
        """`corridor deploy …` of that build, again and again while faults stand in its way. None: they always did.

        Its act is recorded in the database, so nobody gives it while that is exchanged for an older one.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        settings = self._fleet.settings
        environment = {**os.environ, **settings.environment(), "PYTHONPATH": str(tree)}
        while time.monotonic() < deadline:
            async with self._turns.beside():
                with self._fleet.desk.gives(f"deploy {words[0]}") as given:
                    process = await asyncio.create_subprocess_exec(
                        sys.executable, "-P", "-m", "api.cli.main",
                        "deploy", *words, "--data-dir", str(settings.data_dir),
                        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                    )  # fmt: skip
                    said, _ = await process.communicate()
                    given.is_done = process.returncode == 0
            if process.returncode == 0 or b"there is no build" in said:
                return " ".join(said.decode(errors="replace").split())
            await asyncio.sleep(PAUSE_SECONDS)
        return None


def _a_step_more(number: int) -> str:
    return (
        f'            if workflow.patched("build-{number}"):\n'
        f'                await workflow.sleep(timedelta(milliseconds=10), summary="build {number}: a step more")\n'
    )
