"""Reading the oracle: the append-only list of what really happened to money at the fake Stripe."""

import json
import sqlite3
from typing import Any

from corridor.sandbox.stripe.errors import Document


def page(
    connection: sqlite3.Connection,
    *,
    after: int = 0,
    limit: int = 100,
    effect: str | None = None,
    metadata: tuple[str, str] | None = None,
) -> Document:
    """Movements in the order they happened; `metadata` selects everything about the objects that carry it."""
    where, values = ["sequence > ?"], [after]
    _narrow(where, values, effect, metadata)
    sql = f"SELECT * FROM movements WHERE {' AND '.join(where)} ORDER BY sequence LIMIT ?"  # noqa: S608 - only names written in this file are interpolated
    rows = connection.execute(sql, (*values, limit + 1)).fetchall()
    data = [{**dict(row), "metadata": json.loads(row["metadata"])} for row in rows[:limit]]
    return {
        "data": data,
        "has_more": len(rows) > limit,
        "next_after": data[-1]["sequence"] if data else after,
    }


def summary(connection: sqlite3.Connection) -> Document:
    """Totals per effect and currency, and the collected balance per currency as the movements imply it."""
    rows = connection.execute(
        "SELECT effect, currency, COUNT(*) AS count, SUM(amount) AS amount FROM movements"
        " GROUP BY effect, currency ORDER BY effect, currency"
    )
    totals: dict[str, dict[str, Document]] = {}
    for row in rows:
        totals.setdefault(row["effect"], {})[row["currency"]] = {
            "count": row["count"],
            "amount": row["amount"],
        }
    last = connection.execute("SELECT COALESCE(MAX(sequence), 0) FROM movements").fetchone()[0]
    return {"totals": totals, "net_collected": _net_collected(totals), "last_sequence": last}


def _net_collected(totals: dict[str, dict[str, Document]]) -> dict[str, int]:
    signs = {"capture": 1, "refund": -1, "refund_failed": 1, "dispute": -1, "dispute_reversed": 1}
    net: dict[str, int] = {}
    for effect, sign in signs.items():
        for currency, total in totals.get(effect, {}).items():
            net[currency] = net.get(currency, 0) + sign * total["amount"]
    return net


def _narrow(
    where: list[str], values: list[Any], effect: str | None, metadata: tuple[str, str] | None
) -> None:
    if effect is not None:
        where.append("effect = ?")
        values.append(effect)
    if metadata is not None:
        carriers = "SELECT object_id FROM metadata_index WHERE key = ? AND value = ?"
        where.append(f"(intent IN ({carriers}) OR object_id IN ({carriers}))")
        values.extend([*metadata, *metadata])
