"""On a real server, by the driver that the product uses: an acknowledgement is lost at a commit that wrote."""

from urllib.parse import urlsplit

import pytest
from sqlalchemy import Connection, text

from corridor.storage.database import Database, DatabaseUnavailable
from tests.chaos.proxy.fault import Edge, Fault, FaultKind, Framing
from tests.chaos.proxy.proxy import FaultProxy

LOST = Fault(FaultKind.DROP_RESPONSE_AFTER_FORWARD, only_changes=True)


def _make_table(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE mark (n INTEGER)"))


def _count(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM mark")).scalar_one())


def _lock(connection: Connection) -> None:
    connection.execute(text("SELECT n FROM mark FOR UPDATE"))


def _insert(connection: Connection) -> None:
    for number in range(8):  # the driver prepares what it repeats, and then runs it by its name
        connection.execute(text("INSERT INTO mark VALUES (:n)"), {"n": number})


async def test_reads_and_locks_pass_and_a_write_counts_although_nobody_hears_of_it(
    proxy: FaultProxy, postgres_database: str
) -> None:
    parts = urlsplit(postgres_database)
    assert parts.hostname, postgres_database
    port = proxy.open(Edge("database", parts.hostname, parts.port or 5432, Framing.POSTGRES))
    netloc = f"{parts.username or 'postgres'}@127.0.0.1:{port}"
    database = Database(parts._replace(netloc=netloc).geturl())
    await database.write(_make_table)
    proxy.plant("database", LOST)
    assert await database.read(_count) == 0
    await database.write(_lock)
    assert proxy.fired() == []
    with pytest.raises(DatabaseUnavailable):
        await database.write(_insert)
    (record,) = proxy.fired()
    assert (record.kind, record.about) == (FaultKind.DROP_RESPONSE_AFTER_FORWARD, "INSERT INTO mark")
    assert await database.read(_count) == 8
    await database.close()
