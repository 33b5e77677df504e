"""A database that has gone silent ends every call as "out of reach", and a session that is lost gives its locks back."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from corridor.runtime.postgres import temporary_server
from corridor.storage import database as under_test
from corridor.storage.database import Database, DatabaseUnavailable
from corridor.storage.deadlines import SERVING, UNHURRIED
from tests.chaos.proxy.fault import Edge, Fault, FaultKind, Framing, Then
from tests.chaos.proxy.proxy import FaultProxy

SILENT = Fault(FaultKind.PARTITION, then=Then.STALL)
LOST_COMMIT = Fault(FaultKind.DROP_RESPONSE_AFTER_FORWARD, matching="INSERT INTO mark", then=Then.STALL)
SHORT = replace(SERVING, transaction=1)
AT_ALL_SECONDS = 30


@contextmanager
def proxied(url: str) -> Iterator[tuple[FaultProxy, Database]]:
    """The database as one reaches it over a network that can go silent."""
    parts = urlsplit(url)
    assert parts.hostname, url
    with FaultProxy() as proxy:
        port = proxy.open(Edge("database", parts.hostname, parts.port or 5432, Framing.POSTGRES))
        netloc = f"{parts.username or 'postgres'}@127.0.0.1:{port}"
        yield proxy, Database(parts._replace(netloc=netloc).geturl(), deadlines=SHORT)


def _one(connection: Connection) -> int:
    return int(connection.execute(text("SELECT 1")).scalar_one())


def _make_table(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE mark (n INTEGER)"))


def _insert(connection: Connection) -> None:
    connection.execute(text("INSERT INTO mark VALUES (1)"))


def _count(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM mark")).scalar_one())


async def test_a_pooled_connection_to_a_silent_host_is_given_up(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "REACH_SECONDS", 1)
    with proxied(postgres_database) as (proxy, database):
        await database.read(_one)
        proxy.set("database", SILENT)
        async with asyncio.timeout(AT_ALL_SECONDS):
            with pytest.raises(DatabaseUnavailable):
                await database.read(_one)
        proxy.clear("database")
        assert await database.read(_one) == 1
        await database.close()


async def test_a_host_that_goes_silent_inside_a_transaction_ends_it(postgres_database: str) -> None:
    with proxied(postgres_database) as (proxy, database):

        def work(connection: Connection) -> int:
            proxy.set("database", SILENT)
            return _one(connection)

        async with asyncio.timeout(AT_ALL_SECONDS):
            with pytest.raises(DatabaseUnavailable):
                await database.write(work)
        proxy.clear("database")
        assert await database.read(_one) == 1
        await database.close()


async def test_a_host_that_goes_silent_before_a_rollback_does_not_hide_why(postgres_database: str) -> None:
    class Refused(Exception):
        """What the work itself has to say."""

    with proxied(postgres_database) as (proxy, database):

        def work(connection: Connection) -> None:
            _one(connection)
            proxy.set("database", SILENT)
            raise Refused

        async with asyncio.timeout(AT_ALL_SECONDS):
            with pytest.raises((Refused, DatabaseUnavailable)):
                await database.write(work)
        await database.close()


async def test_a_commit_whose_answer_is_lost_is_unavailable_and_may_have_counted(
    postgres_database: str,
) -> None:
    with proxied(postgres_database) as (proxy, database):
        await database.write(_make_table)
        proxy.plant("database", LOST_COMMIT)
        async with asyncio.timeout(AT_ALL_SECONDS):
            with pytest.raises(DatabaseUnavailable):
                await database.write(_insert)
        assert await database.read(_count) == 1
        await database.close()


async def test_a_commit_that_waits_for_its_standby_is_left_waiting() -> None:
    """Canceled, it would be shown to others while the standby, maybe the next primary, does not have it."""
    with temporary_server(survives_crashes=True) as server:
        database = Database(server.url(), deadlines=replace(SHORT, statement=0.5))
        await database.write(_make_table)
        server.query("ALTER SYSTEM SET synchronous_standby_names = 'away'")
        server.query("SELECT pg_reload_conf()")
        committed = 0
        async with asyncio.timeout(AT_ALL_SECONDS):
            with pytest.raises(DatabaseUnavailable):
                while True:  # the server takes its new setting up in its own time
                    await database.write(_insert)
                    committed += 1
        assert server.query("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "1"
        assert await database.read(_count) == committed
        await database.close()


async def test_a_session_that_is_frozen_in_a_transaction_loses_its_locks(postgres_database: str) -> None:
    frozen = Database(postgres_database, deadlines=replace(SERVING, idle=0.2))
    other = Database(postgres_database, deadlines=replace(SERVING, lock=0))
    holds, thawed = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with frozen.engine.connect() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(7)"))
            holds.set()
            await thawed.wait()
            with pytest.raises(DBAPIError):
                await connection.execute(text("SELECT 1"))
            await connection.invalidate()

    holding = asyncio.create_task(hold())
    await holds.wait()
    async with asyncio.timeout(AT_ALL_SECONDS):
        await other.write(lambda it: it.execute(text("SELECT pg_advisory_xact_lock(7)")) and None)
    thawed.set()
    await holding
    for database in (frozen, other):
        await database.close()


async def test_a_lock_that_never_comes_free_is_unavailable(postgres_database: str) -> None:
    holder = Database(postgres_database)
    waiting = Database(postgres_database, deadlines=replace(SERVING, lock=0.05))
    async with holder.engine.connect() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(7)"))
        async with asyncio.timeout(AT_ALL_SECONDS):
            with pytest.raises(DatabaseUnavailable, match="busy"):
                await waiting.write(lambda it: it.execute(text("SELECT pg_advisory_xact_lock(7)")) and None)
    for database in (holder, waiting):
        await database.close()


async def test_a_statement_that_takes_too_long_is_unavailable(postgres_database: str) -> None:
    database = Database(postgres_database, deadlines=replace(SERVING, statement=0.1))
    with pytest.raises(DatabaseUnavailable):
        await database.read(lambda connection: connection.execute(text("SELECT pg_sleep(30)")) and None)
    await database.close()


async def test_a_canceled_caller_leaves_its_transaction_to_its_end(postgres_database: str) -> None:
    database, begun = Database(postgres_database), asyncio.Event()
    await database.write(_make_table)

    def work(connection: Connection) -> None:
        begun.set()
        connection.execute(text("SELECT pg_sleep(0.3)"))
        _insert(connection)

    caller = asyncio.create_task(database.write(work))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await database.close()
    again = Database(postgres_database)
    assert await again.read(_count) == 1
    await again.close()


@pytest.mark.parametrize(
    ("deadlines", "statement", "lock", "idle"),
    [(SERVING, "30s", "5s", "15s"), (UNHURRIED, "0", "1min", "10min")],
)
async def test_the_server_is_told_the_limits(
    deadlines: Any, statement: str, lock: str, idle: str, postgres_database: str
) -> None:
    database = Database(postgres_database, deadlines=deadlines)
    names = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "tcp_user_timeout"]

    def told(connection: Connection) -> list[str]:
        return [str(connection.execute(text(f"SHOW {name}")).scalar_one()) for name in names]

    assert await database.read(told) == [statement, lock, idle, "25000"]
    await database.close()
