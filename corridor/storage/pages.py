"""Pages of a list: by keyset on (created_at, id), at the cost of one page whatever came before it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, select, tuple_, union_all


@dataclass(frozen=True)
class Page:
    """Rows of one page; `has_more` when there are older ones."""

    rows: Sequence[Row[Any]]
    has_more: bool


def newest_first(
    connection: Connection,
    table: Table,
    wanted: Sequence[ColumnElement[bool]],
    limit: int,
    after: tuple[datetime, str] | None,
    statuses: Sequence[str] = (),
) -> Page:
    """The rows that are `wanted`, of any of the `statuses` (none: all); `after` is the last pair of the page before.

    Each status is a range of an index of its own; as one condition they would walk all of history.
    """
    query = select(table).where(*wanted)
    if after is not None:
        # One comparison of pairs: spelt out with `or`, it is no range of an index any more.
        query = query.where(tuple_(table.c.created_at, table.c.id) < after)
    if not statuses:
        rows = connection.execute(_top(query, table.c, limit + 1)).all()
    else:
        parts = [_top(query.where(table.c.status == status), table.c, limit + 1) for status in statuses]
        merged = union_all(*(select(part.subquery()) for part in parts)).subquery()
        rows = connection.execute(_top(select(merged), merged.c, limit + 1)).all()
    return Page(rows[:limit], has_more=len(rows) > limit)


def _top(query: Select[Any], columns: Any, limit: int) -> Select[Any]:
    return query.order_by(columns.created_at.desc(), columns.id.desc()).limit(limit)
