"""What the database knows of a payment and its refunds, in one picture; two pictures differ by gaps."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from corridor.domain.effect import EffectState
from corridor.storage.ledger_tables import postings
from corridor.storage.tables import effects, events, payments, quotes, refunds, reviews
from workers.restore.gaps import Gap, GapKind


@dataclass(frozen=True)
class Picture:
    """By id: (status, sequence) of rows, states of effects and reviews; keys of postings, ids of quotes."""

    rows: dict[str, tuple[str, int]]
    effects: dict[str, str]
    reviews: dict[str, str]
    postings: frozenset[str]
    quotes: frozenset[str]
    events: int

    def sequence(self, object_id: str) -> int:
        """Number of the object's last event; 0 for one that is not known."""
        return self.rows.get(object_id, ("", 0))[1]


def look(connection: Connection, object_ids: Sequence[str]) -> Picture:
    """The first id is the payment's."""
    payment_id, table = object_ids[0], effects.c
    rows = {
        row.id: (row.status, row.sequence)
        for of in (payments, refunds)
        for row in connection.execute(
            select(of.c.id, of.c.status, of.c.sequence).where(of.c.id.in_(object_ids))
        )
    }
    states = connection.execute(select(table.key, table.state).where(table.payment_id == payment_id)).all()
    asked = connection.execute(
        select(reviews.c.id, reviews.c.status).where(reviews.c.payment_id == payment_id)
    ).all()
    posted = select(postings.c.key).where(postings.c.object_id.in_(object_ids))
    held = select(quotes.c.id).where(quotes.c.payment_id == payment_id)
    told = select(func.count()).select_from(events).where(events.c.object_id.in_(object_ids))
    return Picture(
        rows=rows,
        effects={row.key: row.state for row in states},
        reviews={row.id: row.status for row in asked},
        postings=frozenset(connection.execute(posted).scalars()),
        quotes=frozenset(connection.execute(held).scalars()),
        events=connection.execute(told).scalar_one(),
    )


def differences(before: Picture, after: Picture) -> list[Gap]:
    """What `after` knows and `before` did not, thing by thing."""
    gaps = [
        Gap(GapKind.STATUS, name, f"{before.rows[name][0]}, and was {status}")
        for name, (status, sequence) in after.rows.items()
        if name in before.rows and sequence > before.rows[name][1]
    ]
    gaps += [
        Gap(GapKind.QUOTE, name, "the rate the payment holds")
        for name in sorted(after.quotes - before.quotes)
    ]
    for key, state in after.effects.items():
        if key not in before.effects:
            gaps.append(Gap(GapKind.EFFECT, key, "declared, with the bytes that were or may have been sent"))
        if state not in (before.effects.get(key), EffectState.DECLARED):
            gaps.append(Gap(GapKind.OUTCOME, key, state))
    for name, status in after.reviews.items():
        if name not in before.reviews:
            gaps.append(Gap(GapKind.REVIEW, name, "a person was asked"))
        if status == "decided" and before.reviews.get(name) != status:
            gaps.append(Gap(GapKind.DECISION, name, "it was decided"))
    gaps += [
        Gap(GapKind.POSTING, key, "not in the ledger") for key in sorted(after.postings - before.postings)
    ]
    if after.events > before.events:
        object_id = next(iter(after.rows))
        gaps.append(Gap(GapKind.EVENTS, object_id, f"{after.events - before.events} events"))
    return gaps
