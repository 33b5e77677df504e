"""The database's clock: the one that all processes of an installation have in common."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from corridor.storage.columns import UtcTime


class DatabaseNow(FunctionElement[datetime]):
    """The time as of the statement, not of its transaction's beginning. On SQLite, which is a file, it is the machine's."""

    type = UtcTime()
    inherit_cache = True


@compiles(DatabaseNow, "postgresql")
def _postgresql_now(_element: DatabaseNow, _compiler: SQLCompiler, **_: Any) -> str:
    return "clock_timestamp()"


@compiles(DatabaseNow, "sqlite")
def _sqlite_now(_element: DatabaseNow, _compiler: SQLCompiler, **_: Any) -> str:
    # SQLite knows milliseconds; a column's text has microseconds.
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


def read(connection: Connection) -> datetime:
    """What time it is by the database's clock."""
    now: datetime = connection.execute(select(DatabaseNow())).scalar_one()
    return now
