"""The database behind one door: whole transactions as functions, on SQLite and on PostgreSQL alike.

A transaction is a plain function of a `Connection`; `write` and `read` run it to its end and, where the database
says that only the timing was wrong (serialization failure, deadlock, a busy SQLite file), run it again. Such a
function therefore has no effect but the one on the database.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

P = ParamSpec("P")
T = TypeVar("T")

BUSY_TIMEOUT_SECONDS = 15
RETRIES = 8
_TRANSIENT_SQLSTATES = {"40001", "40P01", "55P03"}
_DEFERRED = "corridor_deferred"


class DatabaseUnavailable(Exception):
    """The database cannot be reached or is out of space; nothing of the transaction was kept."""


class Database:
    """One async engine and its two ways in. `url` is `sqlite:///path` or `postgresql://…` (drivers are ours)."""

    def __init__(self, url: str, pool_size: int = 8) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.engine: AsyncEngine = create_async_engine(
            _with_driver(url, "sqlite+aiosqlite", "postgresql+asyncpg"), **_pool_options(self.is_sqlite, pool_size)
        )
        if self.is_sqlite:
            _speak_sqlite(self.engine.sync_engine)

    async def write(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work(connection, …)` in one write transaction; returns after the commit.

        Raises `DatabaseUnavailable` when the database is out of reach, and whatever `work` raises (rolled back).
        """
        result: T = await self._run({}, work, args, kwargs)
        return result

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work` on one consistent snapshot without taking SQLite's writer lock."""
        result: T = await self._run({_DEFERRED: True}, work, args, kwargs)
        return result

    async def _run(self, options: dict[str, Any], work: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        engine = self.engine.execution_options(**options) if options else self.engine
        for attempt in range(RETRIES):
            try:
                async with engine.begin() as connection:
                    return await connection.run_sync(work, *args, **kwargs)
            except DBAPIError as error:
                if not _only_the_timing_was_wrong(error) or attempt == RETRIES - 1:
                    if _is_out_of_reach(error):
                        raise DatabaseUnavailable(type(error.orig).__name__) from error
                    raise
            except OSError as error:
                raise DatabaseUnavailable(type(error).__name__) from error
            # Jitter only spreads retries; it decides nothing.
            await asyncio.sleep(min(0.5, 0.005 * 2**attempt) * random.random())  # noqa: S311
        raise DatabaseUnavailable("still busy after every retry")

    async def close(self) -> None:
        await self.engine.dispose()


def sync_engine(url: str) -> Engine:
    """A blocking engine for commands and tests on SQLite files; PostgreSQL goes through `Database`."""
    engine = create_engine(_with_driver(url, "sqlite", "postgresql"))
    if url.startswith("sqlite"):
        _speak_sqlite(engine)
    return engine


def _with_driver(url: str, sqlite: str, postgresql: str) -> str:
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    return parsed.set(drivername=sqlite if backend == "sqlite" else postgresql).render_as_string(hide_password=False)


def _pool_options(is_sqlite: bool, pool_size: int) -> dict[str, Any]:
    if is_sqlite:
        return {"pool_size": pool_size, "max_overflow": 0, "connect_args": {"timeout": BUSY_TIMEOUT_SECONDS}}
    return {"pool_size": pool_size, "max_overflow": 4, "pool_pre_ping": True, "pool_timeout": 10}


def _speak_sqlite(engine: Engine) -> None:
    """WAL, full durability, foreign keys; and take the writer's place at BEGIN, where waiting is polite."""

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        deferred = connection.get_execution_options().get(_DEFERRED, False)
        connection.exec_driver_sql("BEGIN" if deferred else "BEGIN IMMEDIATE")


def _sqlstate(error: DBAPIError) -> str | None:
    state = getattr(error.orig, "sqlstate", None)
    return state if isinstance(state, str) else None


def _only_the_timing_was_wrong(error: DBAPIError) -> bool:
    return _sqlstate(error) in _TRANSIENT_SQLSTATES or "database is locked" in str(error.orig)


def _is_out_of_reach(error: DBAPIError) -> bool:
    text = str(error.orig)
    return error.connection_invalidated or any(
        sign in text for sign in ("unable to open database", "disk is full", "readonly database", "database is locked")
    )
