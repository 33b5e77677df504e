"""Settlement reports as rows: batches with their control totals, lines with what became of each."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, or_, select, update

from corridor.domain.failure import Refusal, Refused
from corridor.domain.payment import Status
from corridor.domain.settlement import BadRow, SettlementBatch, SettlementLine
from corridor.storage.records import Json
from corridor.storage.tables import payments, settlement_batches, settlement_lines
from corridor.storage.upsert import insert_unless_there

LineRow = Row[Any]

_THIS_LINE = (
    settlement_lines.c.provider == bindparam("of_provider"),
    settlement_lines.c.line_id == bindparam("wanted"),
)
_LINE = select(settlement_lines).where(*_THIS_LINE)
"""Built once, as is the next: every payment runs both when it is settled."""
_MARK = update(settlement_lines).where(*_THIS_LINE)

NAMED_AT_ONCE = 1000
"""SQLite takes 32,766 values in a statement and PostgreSQL's protocol 65,535; a payout may have more rows."""
_ENDED = tuple(status for status in Status if status.is_terminal)


def parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """The ids in runs that one statement can name."""
    return (ids[first : first + NAMED_AT_ONCE] for first in range(0, len(ids), NAMED_AT_ONCE))


def know_batch(connection: Connection, provider: str, batch: SettlementBatch) -> bool:
    """Note a batch; True when it still has to be imported. A second scheduler finds it known.

    One whose rows did not add up is read again: its report may have been read before it was complete.
    """
    found = connection.execute(_this_batch(provider, batch.batch_id)).one_or_none()
    if found is not None:
        return bool(found.state != "imported")
    connection.execute(insert(settlement_batches), _new_batch(provider, batch))
    return True


def know_batches(connection: Connection, provider: str, batches: Iterable[SettlementBatch]) -> None:
    """Note batches that a look found unknown; one that another import noted meanwhile stays as it is."""
    rows = [_new_batch(provider, batch) for batch in batches]
    if rows:
        connection.execute(insert_unless_there(connection, settlement_batches), rows)


def batch_states(connection: Connection, provider: str, batch_ids: Sequence[str]) -> dict[str, str]:
    """The state of each of these batches that is known."""
    states: dict[str, str] = {}
    for some in parts(batch_ids):
        query = (
            select(settlement_batches.c.batch_id, settlement_batches.c.state)
            .where(settlement_batches.c.provider == provider)
            .where(settlement_batches.c.batch_id.in_(some))
        )
        states |= {row.batch_id: row.state for row in connection.execute(query)}
    return states


def _new_batch(provider: str, batch: SettlementBatch) -> Json:
    return {
        "provider": provider,
        "batch_id": batch.batch_id,
        "state": "importing",
        "currency": batch.total.currency,
        "total_minor": batch.total.minor,
        "arrives_at": batch.arrives_at,
        "created_at": batch.created_at,
    }


def newest_batch_at(connection: Connection, provider: str) -> datetime | None:
    """When the newest imported batch was made; the next look reaches back from there."""
    newest: datetime | None = connection.execute(
        select(func.max(settlement_batches.c.created_at)).where(settlement_batches.c.provider == provider)
    ).scalar_one()
    return newest


def stage(
    connection: Connection,
    provider: str,
    lines: Iterable[SettlementLine],
    bad: Iterable[BadRow],
    batch_id: str,
    now: datetime,
) -> None:
    """Keep the rows of a page; rows known from an earlier run of the same page stay as they are."""
    rows: list[Json] = [
        {
            "provider": provider,
            "line_id": line.line_id,
            "batch_id": batch_id,
            "kind": line.kind,
            "payment_id": line.payment_id,
            "effect_key": line.effect_key,
            "body": line.model_dump(mode="json"),
            "state": "staged",
            "reason": None,
            "created_at": now,
        }
        for line in lines
    ] + [
        {
            "provider": provider,
            "line_id": row.line_id,
            "batch_id": batch_id,
            "kind": "bad",
            "payment_id": None,
            "effect_key": None,
            "body": {"raw": row.raw},
            "state": "bad",
            "reason": row.reason[:200],
            "created_at": now,
        }
        for row in bad
    ]
    if rows:
        connection.execute(insert_unless_there(connection, settlement_lines), rows)


def of_batch(connection: Connection, provider: str, batch_id: str, states: Sequence[str]) -> list[LineRow]:
    """The batch's rows in these states, in a stable order."""
    query = (
        select(settlement_lines)
        .where(settlement_lines.c.provider == provider, settlement_lines.c.batch_id == batch_id)
        .where(settlement_lines.c.state.in_(states))
        .order_by(settlement_lines.c.line_id)
    )
    return list(connection.execute(query).all())


def open_charges(connection: Connection, provider: str, batch_id: str) -> list[tuple[str, str]]:
    """(payment id, row id) of the batch's staged charges whose payment still waits for its settlement."""
    query = (
        select(settlement_lines.c.payment_id, settlement_lines.c.line_id)
        .join(payments, payments.c.id == settlement_lines.c.payment_id)
        .where(settlement_lines.c.provider == provider, settlement_lines.c.batch_id == batch_id)
        .where(settlement_lines.c.state == "staged", settlement_lines.c.kind == "charge")
        .where(payments.c.status.not_in(_ENDED))
        .order_by(settlement_lines.c.line_id)
    )
    return [(row.payment_id, row.line_id) for row in connection.execute(query)]


def bookable(connection: Connection, provider: str, batch_id: str) -> list[LineRow]:
    """The batch's staged rows that no payment will book: all but charges of payments that still wait.

    Row and payment are seen at one moment, so a row that a payment books meanwhile is not taken for nobody's.
    """
    query = (
        select(settlement_lines)
        .outerjoin(payments, payments.c.id == settlement_lines.c.payment_id)
        .where(settlement_lines.c.provider == provider, settlement_lines.c.batch_id == batch_id)
        .where(settlement_lines.c.state == "staged")
        .where(
            or_(settlement_lines.c.kind != "charge", payments.c.id.is_(None), payments.c.status.in_(_ENDED))
        )
        .order_by(settlement_lines.c.line_id)
    )
    return list(connection.execute(query).all())


def line(connection: Connection, provider: str, line_id: str) -> LineRow:
    """Raises `Refused(NOT_FOUND)`."""
    row = connection.execute(_LINE, {"of_provider": provider, "wanted": line_id}).one_or_none()
    if row is None:
        raise Refused(Refusal.NOT_FOUND, f"no settlement row {line_id} of {provider}")
    return row


def batches_with_staged_rows(connection: Connection, provider: str) -> list[str]:
    """Batches whose rows are not all dealt with, because a payment could not be told yet."""
    query = (
        select(settlement_lines.c.batch_id)
        .where(settlement_lines.c.provider == provider, settlement_lines.c.state == "staged")
        .distinct()
        .order_by(settlement_lines.c.batch_id)
    )
    return list(connection.execute(query).scalars())


def mark_signaled(connection: Connection, provider: str, line_ids: Sequence[str]) -> None:
    """Their payments were told; a row that its payment has booked already stays booked."""
    for some in parts(line_ids):
        connection.execute(
            update(settlement_lines)
            .where(settlement_lines.c.provider == provider, settlement_lines.c.line_id.in_(some))
            .where(settlement_lines.c.state == "staged")
            .values(state="signaled")
        )


def tell_again(connection: Connection, payment_id: str) -> None:
    """The payment's workflow is gone and with it what it was told: the next import tells its successor."""
    connection.execute(
        update(settlement_lines)
        .where(settlement_lines.c.payment_id == payment_id, settlement_lines.c.state == "signaled")
        .values(state="staged")
    )


def mark(connection: Connection, provider: str, line_id: str, state: str, reason: str | None = None) -> None:
    connection.execute(_MARK, {"of_provider": provider, "wanted": line_id, "state": state, "reason": reason})


def close(connection: Connection, provider: str, batch_id: str, now: datetime) -> bool:
    """Compare the rows with the control total and close the batch; False when they differ."""
    batch = connection.execute(_this_batch(provider, batch_id)).one()
    lines = of_batch(connection, provider, batch_id, ("staged", "signaled", "posted", "unmatched"))
    total = sum(SettlementLine.model_validate(row.body).net.minor for row in lines if row.kind != "payout")
    bad = len(of_batch(connection, provider, batch_id, ("bad",)))
    balanced = bool(total == batch.total_minor)
    connection.execute(
        update(settlement_batches)
        .where(settlement_batches.c.provider == provider, settlement_batches.c.batch_id == batch_id)
        .values(
            state="imported" if balanced else "unbalanced",
            lines_minor=total,
            line_count=len(lines),
            bad_row_count=bad,
            imported_at=now,
        )
    )
    return balanced


def _this_batch(provider: str, batch_id: str) -> Any:
    return select(settlement_batches).where(
        settlement_batches.c.provider == provider, settlement_batches.c.batch_id == batch_id
    )
