"""What a failover does to a connection is said as "the database is out of reach", and never as a bug or a refusal."""

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from asyncpg.exceptions import InterfaceError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from corridor.runtime.postgres import Postgres, temporary_server
from corridor.storage.database import Database, DatabaseUnavailable


def _raise(connection: Connection, state: str) -> None:
    """Let the server itself fail with this SQLSTATE."""
    connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'planted' USING ERRCODE = '{state}'; END $$"))


def _insert(connection: Connection) -> int:
    connection.execute(text("INSERT INTO mark VALUES (1)"))
    return _server(connection)


def _server(connection: Connection) -> int:
    return int(connection.execute(text("SHOW port")).scalar_one())


@pytest.mark.parametrize(
    "state",
    [
        "57P01",
        "57P02",
        "57P03",
        "57P05",
        "25006",
        "08000",
        "08003",
        "08006",
        "08007",
        "53100",
        "53300",
        "58030",
        "25P03",
        "25P04",
        "57014",
    ],
)
async def test_errors_of_a_failover_mean_unavailable(state: str, postgres_database: str) -> None:
    database = Database(postgres_database)
    with pytest.raises(DatabaseUnavailable):
        await database.write(_raise, state)
    await database.close()


@pytest.mark.parametrize("state", ["23505", "42P01", "22003"])
async def test_errors_of_our_own_stay_what_they_are(state: str, postgres_database: str) -> None:
    database = Database(postgres_database)
    with pytest.raises(DBAPIError):
        await database.write(_raise, state)
    await database.close()


async def test_a_full_pool_means_unavailable(postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(postgres_database, pool_size=1)
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.1)
    held = [await database.engine.connect() for _ in range(5)]
    with pytest.raises(DatabaseUnavailable):
        await database.write(_server)
    for connection in held:
        await connection.close()
    await database.close()


async def test_a_server_that_shuts_down_means_unavailable() -> None:
    """Smart shutdown: sessions go on, new ones are refused with 57P03."""
    with temporary_server() as server:
        held, database = Database(server.url()), Database(server.url())
        async with held.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            os.kill(server.pid, signal.SIGTERM)
            with pytest.raises(DatabaseUnavailable):
                async with asyncio.timeout(10):  # the server takes the signal a moment later
                    while True:
                        await database.read(_server)
        await held.close()
        await database.close()


@pytest.fixture
def pair() -> Iterator[tuple[Postgres, Postgres]]:
    """A primary with one table, and its standby."""
    with ExitStack() as stack:
        # Not pytest's directory: the servers' own account cannot enter that.
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="corridor-pg-")))
        place.chmod(0o755)
        (place / "first").mkdir()
        (place / "second").mkdir()
        primary = Postgres(place / "first", survives_crashes=True)
        stack.callback(primary.stop_at_once)
        primary.query("CREATE TABLE mark (n INTEGER)")
        standby = Postgres(place / "second", survives_crashes=True, follows=primary)
        stack.callback(standby.stop_at_once)
        yield primary, standby


async def test_connections_to_a_standby_are_let_go(pair: tuple[Postgres, Postgres]) -> None:
    """It answers pings: kept in the pool, it would refuse writes long after the address leads elsewhere."""
    _, standby = pair
    database = Database(standby.url())
    first = await database.read(_backend)
    assert await database.read(_backend) == first
    with pytest.raises(DatabaseUnavailable):
        await database.write(_insert)
    assert await database.read(_backend) != first
    standby.promote()
    assert await database.write(_insert) == standby.port
    await database.close()


async def test_an_address_of_two_servers_finds_the_one_that_takes_writes(
    pair: tuple[Postgres, Postgres],
) -> None:
    """What `docs/recovery.md` recommends where no virtual address moves with the primary."""
    primary, standby = pair
    hosts = "&".join(f"host=127.0.0.1:{server.port}" for server in (standby, primary))
    database = Database(f"postgresql://postgres@/postgres?{hosts}&target_session_attrs=read-write")
    assert await database.write(_insert) == primary.port
    primary.stop_at_once()
    with pytest.raises(DatabaseUnavailable):
        await database.write(_insert)
    standby.promote()
    assert await database.write(_insert) == standby.port
    await database.close()


async def test_a_connection_that_dies_while_it_is_set_up_is_out_of_reach(
    pair: tuple[Postgres, Postgres], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def closed(*_: object, **__: object) -> None:
        raise InterfaceError("connection is closed")

    monkeypatch.setattr("asyncpg.connection.Connection.set_type_codec", closed)
    database = Database(pair[0].url())
    with pytest.raises(DatabaseUnavailable):
        await database.read(_backend)
    await database.close()


def _backend(connection: Connection) -> int:
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
