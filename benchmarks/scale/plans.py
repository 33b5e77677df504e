"""What the database does for a read: its plan, and on SQLite the number of its virtual machine's steps.

Steps are the same on a busy machine as on a quiet one, so they say whether a read is flat where times only suggest it.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Engine, event

from benchmarks.scale.reads import Desk, Look

Statement = tuple[str, Any]
GRAIN = 10


async def of(desk: Desk, look: Look) -> list[str]:
    """The plans of every SELECT the read runs, each headed by what it asks."""
    with _noted(desk.database.sync_engine) as seen:
        await look(desk)
    return await desk.database.read(_explained, [one for one in seen if _is_of_the_read(one[0])])


async def steps(desk: Desk, look: Look) -> int:
    """Instructions SQLite's virtual machine ran for the read, to within `GRAIN` for each statement."""
    ticks = 0
    watched: set[sqlite3.Connection] = set()

    def tick() -> int:
        nonlocal ticks
        ticks += 1
        return 0

    def watch(_connection: Any, cursor: Any, *_: Any) -> None:
        if cursor.connection not in watched:
            watched.add(cursor.connection)
            cursor.connection.set_progress_handler(tick, GRAIN)

    engine = desk.database.sync_engine
    event.listen(engine, "before_cursor_execute", watch)
    try:
        await look(desk)
    finally:
        event.remove(engine, "before_cursor_execute", watch)
        for connection in watched:
            connection.set_progress_handler(None, GRAIN)
    return ticks * GRAIN


def _is_of_the_read(statement: str) -> bool:
    """Authentication reads the caller's key; it is the same for every list."""
    return statement.startswith(("SELECT", "WITH")) and "\nFROM api_keys" not in statement


@contextlib.contextmanager
def _noted(engine: Engine) -> Iterator[list[Statement]]:
    seen: list[Statement] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


def _explained(connection: Connection, statements: list[Statement]) -> list[str]:
    lite = connection.dialect.name == "sqlite"
    word = "EXPLAIN QUERY PLAN" if lite else "EXPLAIN (ANALYZE, BUFFERS)"
    lines = []
    for statement, parameters in statements:
        lines.append(_short(statement))
        plan = connection.exec_driver_sql(f"{word} {statement}", parameters).all()
        lines += [f"    {row[-1]}" for row in plan]
    return lines


def _short(statement: str) -> str:
    """From FROM on: the columns say nothing about the plan."""
    return " ".join(statement[statement.find("\nFROM") :].split())[:300]
