"""A SQLite file with one writing thread: every unit of work is committed to disk before its caller hears of it.

Requests hand over functions; the thread runs whatever is waiting inside one transaction and commits once
(group commit), so `synchronous=FULL` costs one disk flush per batch and not one per request.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Unit = Callable[[sqlite3.Connection], Any]
Waiting = tuple[Unit, "Future[Any]"]

BATCH_LIMIT = 64


class Books:
    """The only door to one database file."""

    def __init__(self, path: Path, schema: str) -> None:
        self.path = path
        self._waiting: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._connection = _open(path, schema)
        self._thread = threading.Thread(target=self._serve, name=f"books-{path.stem}", daemon=True)
        self._thread.start()

    async def run(self, unit: Callable[[sqlite3.Connection], T]) -> T:
        """Run `unit` in a transaction of its own standing; returns after the commit, raises what it raised."""
        return await asyncio.wrap_future(self._submit(unit))

    def run_blocking(self, unit: Callable[[sqlite3.Connection], T]) -> T:
        """The same for callers without an event loop (start-up and tests)."""
        return self._submit(unit).result()

    def close(self) -> None:
        """Finish what is waiting, then close the file."""
        self._waiting.put(None)
        self._thread.join()

    def _submit(self, unit: Callable[[sqlite3.Connection], T]) -> "Future[T]":
        if not self._thread.is_alive():
            raise RuntimeError(f"the books at {self.path} are closed")
        future: Future[T] = Future()
        self._waiting.put((unit, future))
        return future

    def _serve(self) -> None:
        going_on = True
        while going_on:
            batch, going_on = self._take()
            if batch:
                self._commit(batch)
        self._connection.close()

    def _take(self) -> tuple[list[Waiting], bool]:
        batch: list[Waiting] = []
        item = self._waiting.get()
        while item is not None:
            if item[1].set_running_or_notify_cancel():
                batch.append(item)
            if len(batch) >= BATCH_LIMIT or self._waiting.empty():
                return batch, True
            item = self._waiting.get()
        return batch, False

    def _commit(self, batch: list[Waiting]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            answers = [(future, *_attempt(self._connection, unit)) for unit, future in batch]
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            # A full disk or a foreign lock: nothing of the batch happened, and every caller must hear so.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            for _, future in batch:
                future.set_exception(error)
            return
        for future, value, failure in answers:
            if failure is not None:
                future.set_exception(failure)
            else:
                future.set_result(value)


def _attempt(connection: sqlite3.Connection, unit: Unit) -> tuple[Any, Exception | None]:
    """One unit inside the batch: its failure undoes its own writes and no one else's."""
    connection.execute("SAVEPOINT unit")
    try:
        value = unit(connection)
    except Exception as failure:  # noqa: BLE001 - handed to the caller's future, never swallowed
        connection.execute("ROLLBACK TO unit")
        connection.execute("RELEASE unit")
        return None, failure
    connection.execute("RELEASE unit")
    return value, None


def _open(path: Path, schema: str) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA busy_timeout=5000")
    connection.executescript(schema)
    return connection
