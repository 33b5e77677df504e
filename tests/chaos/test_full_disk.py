"""A full disk counts when the database could keep nothing, not when a file of our own was refused."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.faults import disk
from tests.chaos.faults.disk import Complaints, keeps, truncate_log

ROOT = Path(__file__).parents[2]


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


async def test_a_disk_that_the_database_did_not_notice_was_not_full(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_own_mounts", lambda: None)
    monkeypatch.setattr(disk.Disk, "_size", lambda *_, **__: None)
    monkeypatch.setattr(disk.Disk, "_refuses_a_write", lambda _: True)
    monkeypatch.setattr(disk, "COMPLAINS_WITHIN_SECONDS", 0.0)
    monkeypatch.setattr(disk, "_is_refused", lambda *_: _append(log, "disk is full\n"))
    fired, note = await disk.Disk(tmp_path).full(0.0)
    assert not fired
    assert note.endswith("the database was not struck; said in the logs of api")
    monkeypatch.setattr(disk, "_is_refused", lambda *_: True)
    assert (await disk.Disk(tmp_path).full(0.0))[0]


# In a process of its own, whose mounts are its own.
FILLED = """
import asyncio, sqlite3, sys
from pathlib import Path
from tests.chaos.faults.disk import Disk, keeps
ours = Disk(Path(sys.argv[1]))
if not ours.is_ours:
    sys.exit(ours.skipped()[0])
file = Path(sys.argv[1]) / "installation" / "corridor.db"
file.parent.mkdir()
writer = sqlite3.connect(file, isolation_level=None)
writer.execute("PRAGMA journal_mode=WAL")
writer.execute("CREATE TABLE merchants (name TEXT)")
writer.execute("INSERT INTO merchants VALUES ('Lantern & Loom')")
assert keeps(file)
print(*asyncio.run(ours.full(0.5, file)))
assert keeps(file), "there is room again"
assert writer.execute("SELECT name FROM merchants").fetchall() == [("Lantern & Loom",)]
writer.close()
ours.close()
"""


def test_a_disk_that_is_really_full_keeps_no_commit(tmp_path: Path) -> None:
    words = [sys.executable, "-c", FILLED, str(tmp_path / "data")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 — our own code
    if "no mount of our own" in done.stderr or "no mount namespaces" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True full at 0 MB for 0.5 s, the database kept nothing")


def test_whoever_asks_while_others_hold_the_database_is_told_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "LOCKED_AT_MOST_SECONDS", 0.05)
    file = tmp_path / "corridor.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE merchants (name TEXT)")
        writer.execute("BEGIN IMMEDIATE")
        assert keeps(file) is None
        writer.execute("COMMIT")
        assert keeps(file)
