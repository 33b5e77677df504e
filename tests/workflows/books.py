"""The proof at the end of every scenario: the provider's own books, our effects and our ledger tell the same story."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, select

from corridor.domain.payment import Status
from corridor.ledger import proof
from corridor.storage.ledger_tables import entries, postings
from corridor.storage.tables import effects, events, payments, refunds, reviews
from tests.workflows.world import World

Movement = tuple[str, str, int, str]
"""(payment, what moved, minor units, currency)"""

_POSTED = ("sale", "capture", "refund")


async def prove(here: World) -> None:
    """Every payment of this world: one effect a movement, one posting an effect, events without a gap."""
    report = await here.database.read(proof.verify)
    assert report.holds, str(report)
    ours = Counter(await here.database.read(_movements)) + Counter(
        ("nobody's", *movement) for movement in here.strangers
    )
    theirs = Counter(await _their_movements(here))
    assert ours == theirs, f"only ours: {ours - theirs}; only the provider's: {theirs - ours}"
    assert await here.database.read(_unposted) == []
    assert await here.database.read(_wrong_totals) == []
    assert await here.database.read(_gaps) == []
    assert await here.database.read(_left_open) == []


async def _their_movements(here: World) -> list[Movement]:
    found: list[Movement] = []
    after, more = 0, True
    while more:
        page = (await here.control.get("/control/books", params={"limit": 1000, "after": after})).json()
        after, more = page["next_after"], page["has_more"]
        found += [
            (
                row["metadata"].get("corridor_payment", "nobody's"),
                row["effect"],
                row["amount"],
                row["currency"].upper(),
            )
            for row in page["data"]
            if row["effect"] not in ("fee", "payout")
        ]
    return found


def _movements(connection: Connection) -> list[Movement]:
    return list(_expected(connection))


def _expected(connection: Connection) -> Iterator[Movement]:
    """What our approved effects mean at the provider, movement by movement."""
    approved = connection.execute(select(effects).where(effects.c.state == "approved")).all()
    held = {effect.payment_id for effect in approved if effect.operation in ("authorise", "sale")}
    for effect in approved:
        money = (effect.amount_minor, effect.currency)
        if effect.operation in ("authorise", "sale"):
            yield (effect.payment_id, "authorise", *money)
        if effect.operation in ("sale", "capture"):
            yield (effect.payment_id, "capture", *money)
        if effect.operation == "void" and effect.payment_id in held:
            yield (effect.payment_id, "cancel", *money)
        if effect.operation == "refund":
            yield (effect.payment_id, "refund", *money)
            if _status_of_refund(connection, effect.object_id) == "failed":
                yield (effect.payment_id, "refund_failed", *money)


def _status_of_refund(connection: Connection, refund_id: str) -> str:
    return str(connection.execute(select(refunds.c.status).where(refunds.c.id == refund_id)).scalar_one())


def _unposted(connection: Connection) -> list[str]:
    """Approved effects without exactly their posting, and postings named after an effect that is not approved."""
    approved = {
        row.key: row
        for row in connection.execute(
            select(effects).where(effects.c.state == "approved", effects.c.operation.in_(_POSTED))
        )
    }
    posted = {
        row.key: row.id
        for row in connection.execute(select(postings.c.key, postings.c.id))
        if row.key.split(":")[1] in _POSTED
    }
    wrong = sorted(approved.keys() ^ posted.keys())
    for key in approved.keys() & posted.keys():
        legs = connection.execute(select(entries).where(entries.c.posting_id == posted[key])).all()
        clearing = sum(leg.amount_minor for leg in legs if leg.account.startswith("clearing/"))
        if abs(clearing) != approved[key].amount_minor:
            wrong.append(f"{key}: {clearing} cleared")
    return wrong


def _wrong_totals(connection: Connection) -> list[str]:
    """Payments whose own totals differ from the sum of their effects and refunds."""
    wrong = []
    for payment in connection.execute(select(payments)):
        captured = _sum(connection, payment.id, ("sale", "capture"))
        returned = connection.execute(
            select(refunds.c.amount_minor).where(
                refunds.c.payment_id == payment.id, refunds.c.status == "succeeded"
            )
        ).scalars()
        pending = connection.execute(
            select(refunds.c.amount_minor).where(
                refunds.c.payment_id == payment.id,
                refunds.c.status.in_(("processing", "requires_review")),
                refunds.c.reserved_minor.is_not(None),
            )
        ).scalars()
        kept = (
            payment.amount_captured_minor,
            payment.amount_refunded_minor,
            payment.amount_refund_reserved_minor,
        )
        if kept != (captured, sum(returned), sum(pending)):
            wrong.append(f"{payment.id}: {kept}")
    return wrong


def _sum(connection: Connection, payment_id: str, operations: tuple[str, ...]) -> int:
    amounts = connection.execute(
        select(effects.c.amount_minor).where(
            effects.c.payment_id == payment_id,
            effects.c.state == "approved",
            effects.c.operation.in_(operations),
        )
    )
    return sum(amounts.scalars())


def _gaps(connection: Connection) -> list[str]:
    """Objects whose events are not exactly 1 to the sequence on their row."""
    wrong = []
    for table in (payments, refunds):
        for row in connection.execute(select(table.c.id, table.c.sequence)):
            numbers = connection.execute(
                select(events.c.sequence).where(events.c.object_id == row.id).order_by(events.c.sequence)
            )
            if list(numbers.scalars()) != list(range(1, row.sequence + 1)):
                wrong.append(row.id)
    return wrong


def _left_open(connection: Connection) -> list[Any]:
    """Terminal payments with an open review, and open reviews nobody waits for."""
    ended = [status for status in Status if status.is_terminal]
    query = (
        select(reviews.c.id)
        .join(payments, payments.c.id == reviews.c.object_id)
        .where(reviews.c.status == "open", payments.c.status.in_(ended))
    )
    return list(connection.execute(query).scalars())
