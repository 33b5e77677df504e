"""`corridor deploy adopt` that is cut off says how many payments it had moved, to the operator and on record."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.service import RPCError, RPCStatusCode

from api.cli import deploy
from api.cli.exit_codes import ExitCode
from corridor.runtime import client
from corridor.runtime.replay import Replayed, Verdict
from corridor.storage import operator_acts
from corridor.storage.database import Database
from workers.builds import adoption, deployment
from workers.builds.deployment import Build, State


@pytest.fixture
def gone_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three payments are pinned to a build that is gone, and Temporal is lost after the second was moved."""
    verdicts = [Replayed(f"payment-{number}", "run", Verdict.FITS) for number in range(3)]
    moved: list[str] = []

    async def connect(*_: object) -> object:
        return SimpleNamespace()

    async def builds(_: object) -> list[Build]:
        return [Build("old", State.DRAINING, 3, None)]

    async def groups(_: object) -> AsyncIterator[object]:
        yield verdicts

    async def pin(_client: object, _build: str, replayed: Replayed) -> bool:
        if len(moved) == 2:
            raise RPCError("tcp connect error", RPCStatusCode.UNAVAILABLE, b"")
        moved.append(replayed.workflow_id)
        return True

    def judge(_: object) -> Any:
        async def give(_: object) -> Sequence[Replayed]:
            return verdicts

        return give

    monkeypatch.setattr(client, "connect", connect)
    monkeypatch.setattr(deployment, "builds", builds)
    monkeypatch.setattr(adoption, "_groups", groups)
    monkeypatch.setattr(adoption, "from_server", lambda *_: None)
    monkeypatch.setattr(adoption, "_pin", pin)
    monkeypatch.setattr(adoption, "PINNED_AT_ONCE", 1)
    monkeypatch.setattr(deploy, "_judge", judge)


@pytest.mark.usefixtures("gone_build")
def test_an_adoption_that_is_cut_off_says_how_many_were_moved(
    sqlite_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", sqlite_database)
    assert deploy.adopt({"data_dir": tmp_path}, "old", force=False) is ExitCode.UNAVAILABLE
    said = capsys.readouterr().err
    assert "Temporal cannot be reached: tcp connect error; 2 were moved and stay so" in said
    assert "run it again" in said
    (act,) = asyncio.run(_acts(sqlite_database))
    assert (act.outcome, act.result) == ("failed: unavailable", {"moved": 2})


async def _acts(url: str) -> Sequence[Any]:
    database = Database(url)
    try:
        return await database.read(operator_acts.since, None)
    finally:
        await database.close()
