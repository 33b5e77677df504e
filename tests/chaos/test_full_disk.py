"""A full disk counts when a process of the installation was refused a write and said so, not when ours was."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.faults import disk
from tests.chaos.faults.disk import Complaints, truncate_log


@pytest.fixture
def log(tmp_path: Path) -> Path:
    logs = tmp_path / "installation" / "logs"
    logs.mkdir(parents=True)
    (logs / "api.log").write_text("an older trouble: database or disk is full\n", "utf-8")
    return logs / "api.log"


def _append(log: Path, text: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(text)


def test_who_complains_from_now_on_has_met_it(log: Path, tmp_path: Path) -> None:
    said = Complaints(tmp_path)
    _append(log, "all is well\n")
    assert said.since() == set()
    _append(log, "sqlite3.OperationalError: database or disk is full\n")
    assert said.since() == {"api"}


def test_a_server_and_a_log_that_was_begun_meanwhile_are_heard_too(log: Path, tmp_path: Path) -> None:
    said = Complaints(tmp_path)
    server = tmp_path / "corridor-pg-1" / "server-1"
    server.mkdir(parents=True)
    (server / "log").write_text("FATAL: could not write to file: No space left on device\n", "utf-8")
    assert said.since() == {"database"}


def test_what_was_written_before_is_no_room_for_what_comes(tmp_path: Path) -> None:
    database = tmp_path / "corridor.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE mark (n INTEGER)")
        log = tmp_path / "corridor.db-wal"
        assert log.stat().st_size > 0
        assert truncate_log(database)
        assert log.stat().st_size == 0


def test_a_database_that_is_just_being_deleted_is_not_made_anew(tmp_path: Path) -> None:
    assert not truncate_log(tmp_path / "temporal.db")
    assert list(tmp_path.iterdir()) == []


async def test_a_disk_that_nobody_noticed_was_not_full(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_own_mounts", lambda: None)
    monkeypatch.setattr(disk.Disk, "_size", lambda *_, **__: None)
    monkeypatch.setattr(disk.Disk, "_refuses_a_write", lambda _: True)
    monkeypatch.setattr(disk, "COMPLAINS_WITHIN_SECONDS", 0.0)
    ours = disk.Disk(tmp_path)
    fired, note = await ours.full(0.0)
    assert not fired
    assert note.endswith("noticed by nobody")
    filling = asyncio.create_task(ours.full(1.0))
    await asyncio.sleep(0.2)
    _append(log, "sqlite3.OperationalError: database or disk is full\n")
    fired, note = await filling
    assert fired
    assert note.endswith("noticed by api")
