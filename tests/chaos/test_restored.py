"""A database that comes back older: who may strike beside it, what the watch holds it to, and how old it takes it for."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock

import pytest
from sqlalchemy import Connection, insert

from api.cli.drill import backup
from api.cli.drill.disasters import Recovered
from corridor.runtime.settings import Settings
from corridor.storage.database import Database
from corridor.storage.tables import event_positions, events
from tests.chaos.faults import restore
from tests.chaos.stand import Stand
from tests.chaos.watch import Watch, WentBack
from tests.workflows.earlier import empty
from workers.restore.check import MARGIN, newest_surely_known
from workers.restore.gaps import Gap, GapKind

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


def back(*, left: tuple[Gap, ...] = (), second: tuple[Gap, ...] = ()) -> WentBack:
    return WentBack(AT, AT + timedelta(seconds=30), AT, 12.0, Recovered({"payment_missing": 2}, left, second))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A payment at its second event."""
    opened = Database(await empty(tmp_path / "now.db"))
    await opened.write(tell, "evt_1", "pay_1", 1, "processing", 1)
    await opened.write(tell, "evt_2", "pay_1", 2, "captured", 2)
    yield opened
    await opened.close()


def tell(
    connection: Connection, event_id: str, payment_id: str, sequence: int, status: str, place: int,
    at: datetime = AT,
) -> None:  # fmt: skip
    connection.execute(
        insert(events).values(
            id=event_id, merchant_id="mer_1", object_type="payment", object_id=payment_id, sequence=sequence,
            type="payment.moved", data={"status": status}, previous={}, created_at=at,
        )
    )  # fmt: skip
    connection.execute(
        insert(event_positions).values(
            position=place, event_id=event_id, merchant_id="mer_1", dispatched_at=None
        )
    )


async def restored(watch: Watch, database: Database, tmp_path: Path, *told: tuple[str, int, str]) -> Database:
    """The watch in a database that was restored without event 2 and since told these, of the payment, at later places."""
    before = Database(await empty(tmp_path / "before.db"))
    await before.write(tell, "evt_1", "pay_1", 1, "processing", 1)
    for place, (event_id, sequence, status) in enumerate(told, start=1_000):
        await before.write(tell, event_id, "pay_1", sequence, status, place)
    await watch.look()
    async with watch.looking_away():
        watch.database = before
        watch.went_back(back())
    await watch.last_look()
    return before


async def test_a_world_that_was_made_again_as_it_was_breaks_nothing(
    database: Database, tmp_path: Path
) -> None:
    violations: list[str] = []
    watch = Watch(database, violations.append)
    told = (("evt_2", 2, "captured"), ("evt_3", 3, "settled"))
    await (await restored(watch, database, tmp_path, *told)).close()
    assert violations == []
    assert "came back 30 s older" in str(watch.returns[0])


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ((), "evt_2, number 2 of pay_1 (captured), was not made again"),
        ((("evt_9", 2, "captured"),), "evt_9"),
        ((("evt_2", 2, "failed"),), "failed"),
    ],
)
async def test_what_was_told_before_and_is_otherwise_since_is_a_violation(
    database: Database, tmp_path: Path, told: tuple[tuple[str, int, str], ...], words: str
) -> None:
    violations: list[str] = []
    await (await restored(Watch(database, violations.append), database, tmp_path, *told)).close()
    assert len(violations) == 1
    assert words in violations[0]


async def test_a_recovery_that_leaves_something_over_is_a_violation(database: Database) -> None:
    violations: list[str] = []
    gap = Gap(GapKind.NO_HISTORY, "pay_1", "nobody knows of it", "look")
    Watch(database, violations.append).went_back(back(left=(gap,), second=(gap,)))
    assert len(violations) == 2


async def test_what_a_person_was_told_of_is_no_violation_and_not_owed(database: Database) -> None:
    """A step was committed and its answer lost: no history can make it again, and the command says so."""
    violations: list[str] = []
    gap = Gap(GapKind.DIVERGED, "pay_1", "two stories", "look")
    watch = Watch(database, violations.append)
    watch._seen = {("pay_1", 2): ("evt_2", "captured"), ("pay_2", 1): ("evt_3", "processing")}
    watch.went_back(back(left=(gap,), second=(gap,)))
    assert violations == []
    assert set(watch._owed) == {("pay_2", 1)}
    assert all("pay_1" in it for it in violations)


async def test_the_age_of_a_database_is_not_taken_from_a_clock_that_ran_ahead(
    database: Database, tmp_path: Path
) -> None:
    await database.write(tell, "evt_3", "pay_2", 1, "processing", 3, AT + timedelta(days=1))
    assert await database.read(newest_surely_known) == AT - MARGIN
    nothing = Database(await empty(tmp_path / "nothing.db"))
    assert await nothing.read(newest_surely_known) is None
    await nothing.close()


def test_a_backup_that_fails_says_so_and_leaves_no_half_a_copy(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    backup.file_of(settings).write_bytes(b"this is no database" * 1_000)
    with pytest.raises(backup.BackupFailed, match="not a database"):
        backup.take(settings, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


async def test_a_backup_that_meets_a_full_disk_is_taken_again_and_is_as_old_as_the_one_that_succeeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by soak seed 20261138: a full disk at the moment of the backup ended the run."""
    failures, taken_from = 2, []

    def take(settings: Settings, to: Path) -> None:
        taken_from.append(datetime.now(UTC))
        if len(taken_from) <= failures:
            raise backup.BackupFailed(f"{to}: database or disk is full")

    monkeypatch.setattr(backup, "take", take)
    monkeypatch.setattr(restore, "BACKUP_AGAIN_SECONDS", 0.01)
    stand = Mock(spec=Stand, postgres=None, settings=Settings(data_dir=tmp_path))
    older = await restore.leave_behind(stand, 1)
    assert older.copy == tmp_path / "backup-1"
    assert taken_from[1] < older.at <= taken_from[2]
