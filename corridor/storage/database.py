"""The database behind one door: whole transactions as functions, on SQLite and on PostgreSQL alike.

A transaction is a plain function of a `Connection`; `write` and `read` run it to its end and, where the database
says that only the timing was wrong (serialization failure, deadlock, a busy SQLite file), run it again. Such a
function therefore has no effect but the one on the database.
"""

import asyncio
import contextvars
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

from asyncpg.exceptions import InterfaceError, OperatorInterventionError, PostgresConnectionError
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from corridor.storage import address
from corridor.storage.deadlines import SERVING, Deadlines

P = ParamSpec("P")
T = TypeVar("T")

BUSY_TIMEOUT_SECONDS = 15
RETRIES = 8
SQLITE_READERS = 4
CONNECT_SECONDS = 10
"""For one server: a host that lost its power answers nothing, and the driver alone would wait a minute for it."""
POOL_SECONDS = 5
"""For a place in a full pool: shorter than the time a step has to record a provider's answer."""
REACH_SECONDS = POOL_SECONDS + 2 * CONNECT_SECONDS
"""Until a connection is usable: a place in the pool, its old connection tried, both hosts of an address asked."""
_DIED_WHILE_SET_UP = (InterfaceError, OperatorInterventionError, PostgresConnectionError)
"""The driver's own errors, which SQLAlchemy lets through while it prepares a connection that was just made."""
_TRANSIENT_SQLSTATES = {"40001", "40P01", "55P03"}
_WRONG_SERVER_SQLSTATES = {"57P01", "57P02", "57P03", "57P05", "25006"}
"""This server shuts down, recovers, is starting, ended the idle session, or is a standby and takes no writes: every
connection to it is let go, for the next may lead to the new primary (Appendix A of PostgreSQL's manual)."""
_OVERDUE_SQLSTATES = {"25P03", "25P04", "57014"}
"""The transaction paused for too long, took too long, or one statement of it did. Nothing of it was kept."""
_OUT_OF_REACH_SQLSTATES = ("08", "53", "58030", *_WRONG_SERVER_SQLSTATES, *_OVERDUE_SQLSTATES)
"""Whole classes by their first two signs: the connection's (08) and missing resources (53); 58030 is a failed write."""
_OUT_OF_REACH_SIGNS = (
    "unable to open database",
    "disk is full",
    "readonly database",
    "database is locked",
    "None of the hosts match the target attribute",
)
"""Errors without a state: SQLite's, and the driver's where `target_session_attrs` finds no primary yet."""
_DEFERRED = "corridor_deferred"


class DatabaseUnavailable(Exception):
    """The database cannot be reached, takes no writes, is out of space or did not answer in time.

    Nothing of the transaction was kept, unless it was lost in its commit: then only a look can tell.
    """


class Database:
    """One engine and its two ways in. `url` is `sqlite:///path` or `postgresql://…` as platforms write it.

    Raises `AddressRefused`.
    """

    def __init__(
        self, url: str, pool_size: int = 8, overflow: int = 4, *, deadlines: Deadlines = SERVING
    ) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self._engine = _Threads(url) if self.is_sqlite else _Pool(url, pool_size, overflow, deadlines)

    async def write(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work(connection, …)` in one write transaction; returns after the commit.

        Raises `DatabaseUnavailable` when the database is out of reach, and whatever `work` raises (rolled back).
        A caller that is canceled while it waits leaves the transaction to its end and does not learn of it.
        """
        result: T = await self._run(False, lambda connection: work(connection, *args, **kwargs))
        return result

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work`, which changes nothing, on one snapshot: all its statements see the same moment.

        On SQLite without the writer lock, on PostgreSQL REPEATABLE READ and READ ONLY. Raises like `write`.
        """
        result: T = await self._run(True, lambda connection: work(connection, *args, **kwargs))
        return result

    async def _run(self, reads: bool, work: Callable[[Connection], Any]) -> Any:
        for attempt in range(RETRIES):
            try:
                with unavailable_when_out_of_reach():
                    return await self._engine.run(reads, work)
            except DBAPIError as error:
                if not _only_the_timing_was_wrong(error):
                    raise
                if attempt == RETRIES - 1:
                    raise DatabaseUnavailable("still busy after every retry") from error
            # Jitter only spreads retries; it decides nothing.
            await asyncio.sleep(min(0.5, 0.005 * 2**attempt) * random.random())  # noqa: S311
        raise DatabaseUnavailable("still busy after every retry")

    @property
    def engine(self) -> AsyncEngine:
        """PostgreSQL's engine, for what needs a connection of its own (advisory locks held over transactions)."""
        if isinstance(self._engine, _Threads):
            raise TypeError("SQLite is reached through `write` and `read` only")
        return self._engine.engine

    @property
    def sync_engine(self) -> Engine:
        """The engine that SQLAlchemy's events are listened on."""
        return self._engine.sync_engine

    async def close(self) -> None:
        """Finish what runs, then give all connections back."""
        await self._engine.close()


@contextmanager
def unavailable_when_out_of_reach() -> Iterator[None]:
    """Say it in our own word; what only met others at a wrong moment, and what is our own fault, stays what it is."""
    try:
        yield
    except DBAPIError as error:
        if _only_the_timing_was_wrong(error) or not _is_out_of_reach(error):
            raise
        raise DatabaseUnavailable(type(error.orig).__name__) from error
    except (OSError, PoolTimeout, *_DIED_WHILE_SET_UP) as error:
        raise DatabaseUnavailable(type(error).__name__) from error


class _Pool:
    """PostgreSQL: asyncpg under SQLAlchemy's asyncio layer.

    A transaction is a task of its own, which nobody cancels: asyncpg would ask the server to cancel the statement, and
    a COMMIT that waits for its standby would be seen by others though the standby does not have it.
    """

    def __init__(self, url: str, pool_size: int, overflow: int, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._running: set[asyncio.Task[Any]] = set()
        found = address.parse(url)
        self.engine = create_async_engine(
            found.url,
            pool_size=pool_size, max_overflow=overflow, pool_pre_ping=True, pool_timeout=POOL_SECONDS, hide_parameters=True,
            connect_args={
                **found.driver_arguments,
                "timeout": CONNECT_SECONDS,
                "server_settings": deadlines.of_the_server(),
            },
        )  # fmt: skip
        self.sync_engine = self.engine.sync_engine
        event.listen(self.sync_engine, "handle_error", _leave_the_wrong_server)
        # The same connections; the driver says it in its BEGIN, so that a snapshot costs no statement more.
        self._reading = self.engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )

    async def run(self, reads: bool, work: Callable[[Connection], Any]) -> Any:
        task = asyncio.create_task(self._transact(self._reading if reads else self.engine, work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _transact(self, engine: AsyncEngine, work: Callable[[Connection], Any]) -> Any:
        connection = engine.connect()
        async with asyncio.timeout(REACH_SECONDS):
            await connection.start()
        try:
            driver = (await connection.get_raw_connection()).driver_connection
            with _dropped_after(self._deadlines.transaction, driver):
                async with connection.begin():
                    return await connection.run_sync(work)
        finally:
            await connection.close()

    async def close(self) -> None:
        await asyncio.gather(*self._running, return_exceptions=True)
        await self.engine.dispose()


@contextmanager
def _dropped_after(seconds: float, driver: Any) -> Iterator[None]:
    """Whoever still waits on the connection then hears that it was lost, in the middle of a COMMIT too."""
    overdue = asyncio.get_running_loop().call_later(seconds, driver.terminate) if seconds else None
    try:
        yield
    finally:
        if overdue is not None:
            overdue.cancel()


class _Threads:
    """SQLite: a blocking engine on threads of our own, one hop for a whole transaction.

    An asyncio driver hops to its thread and back several times for every statement, which was more than half of what
    a payment's transactions cost (42 against 19 ms of processor). Writers share one thread: inside a process they queue in
    order, and only processes compete for the file's one writer lock.
    """

    def __init__(self, url: str) -> None:
        self.sync_engine = sync_engine(url)
        self._reading = self.sync_engine.execution_options(**{_DEFERRED: True})
        self._writer = ThreadPoolExecutor(1, "sqlite-writer")
        self._readers = ThreadPoolExecutor(SQLITE_READERS, "sqlite-reader")

    async def run(self, reads: bool, work: Callable[[Connection], Any]) -> Any:
        engine, threads = (self._reading, self._readers) if reads else (self.sync_engine, self._writer)
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(threads, context.run, _transact, engine, work)

    async def close(self) -> None:
        for threads in (self._writer, self._readers):
            await asyncio.to_thread(threads.shutdown)
        self.sync_engine.dispose()


def _transact(engine: Engine, work: Callable[[Connection], Any]) -> Any:
    with engine.begin() as connection:
        return work(connection)


def sync_engine(url: str) -> Engine:
    """A blocking engine on a SQLite file, for commands and tests too; PostgreSQL goes through `Database`."""
    options = {"timeout": BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
    engine = create_engine(
        address.parse(url).url,
        pool_size=SQLITE_READERS + 1, max_overflow=0, connect_args=options, hide_parameters=True,
    )  # fmt: skip
    _speak_sqlite(engine)
    return engine


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


def sqlstate(error: DBAPIError) -> str | None:
    """PostgreSQL's name for what went wrong; None from SQLite and from the driver itself."""
    state = getattr(error.orig, "sqlstate", None)
    return state if isinstance(state, str) else None


def _only_the_timing_was_wrong(error: DBAPIError) -> bool:
    return sqlstate(error) in _TRANSIENT_SQLSTATES or "database is locked" in str(error.orig)


def _leave_the_wrong_server(context: ExceptionContext) -> None:
    """A standby answers pings: its connections would stay in the pool and refuse every write until a restart."""
    if getattr(context.original_exception, "sqlstate", None) in _WRONG_SERVER_SQLSTATES:
        context.is_disconnect = True


def _is_out_of_reach(error: DBAPIError) -> bool:
    if error.connection_invalidated or (sqlstate(error) or "").startswith(_OUT_OF_REACH_SQLSTATES):
        return True
    return any(sign in str(error.orig) for sign in _OUT_OF_REACH_SIGNS)
