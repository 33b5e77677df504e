"""What operators did, as rows that are only added to: who, when, what, and with which outcome.

A command's act is begun in a transaction of its own before anything happens, and ended after it. One without an end
died in between, or lost the database: whoever reads the record must look at what became of it. The decision of a
review is one transaction with its act.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, inspect, select, update

from corridor.domain.ids import Prefix, new_id
from corridor.domain.outcome import Frozen
from corridor.storage.records import Json, time_view
from corridor.storage.tables import operator_acts

ActRow = Row[Any]

OK = "ok"
REVIEW_DECIDE = "review decide"
_LOWEST = bytes(10)


class NewAct(Frozen):
    """An act as it begins. `words` is what the command was given; whoever makes it keeps secrets out."""

    id: str
    at: datetime
    who: str
    command: str
    words: Json


def begin(connection: Connection, act: NewAct) -> None:
    """The act is about to happen."""
    connection.execute(insert(operator_acts).values(**act.model_dump(), result={}))


def end(
    connection: Connection, act_id: str, outcome: str, result: Mapping[str, object], now: datetime
) -> None:
    """How it ended: `ok`, or `failed: …`. The first end stands."""
    connection.execute(
        update(operator_acts)
        .where(operator_acts.c.id == act_id, operator_acts.c.finished_at.is_(None))
        .values(outcome=outcome, result=dict(result), finished_at=now)
    )


def record_decision(
    connection: Connection, review_id: str, decision: str, decided_by: str, now: datetime
) -> None:
    """The decision of a review, in its own transaction. The id follows from the review: a database that is made again
    from histories has the same act."""
    entropy = hashlib.sha256(review_id.encode()).digest()[:10]
    act = NewAct(
        id=new_id(Prefix.OPERATOR_ACT, now, entropy),
        at=now,
        who=decided_by,
        command=REVIEW_DECIDE,
        words={"review": review_id, "decision": decision},
    )
    connection.execute(
        insert(operator_acts).values(**act.model_dump(), outcome=OK, result={}, finished_at=now)
    )


def since(connection: Connection, moment: datetime | None) -> list[ActRow]:
    """Acts begun from then on, or all, oldest first: ids sort by time."""
    query = select(operator_acts).order_by(operator_acts.c.id)
    if moment is not None:
        query = query.where(operator_acts.c.id >= new_id(Prefix.OPERATOR_ACT, moment, _LOWEST))
    return list(connection.execute(query).all())


def is_kept(connection: Connection) -> bool:
    """Whether the schema has the record at all; databases of older builds have not."""
    return inspect(connection).has_table(operator_acts.name)


def view(row: ActRow) -> Json:
    return {
        "id": row.id,
        "at": time_view(row.at),
        "who": row.who,
        "command": row.command,
        "words": row.words,
        "outcome": row.outcome,
        "result": row.result,
        "finished_at": time_view(row.finished_at),
    }
