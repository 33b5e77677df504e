"""What the database knows of a payment and its refunds, in one picture; two pictures differ by gaps."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Integer,
    Row,
    Select,
    String,
    bindparam,
    cast,
    func,
    literal,
    select,
    union_all,
)

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
    of: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(_LOOK, {"payment": object_ids[0], "objects": object_ids}):
        of[row.kind].append(row)
    return Picture(
        rows={row.name: (row.state, row.number) for row in (*of["payment"], *of["refund"])},
        effects={row.name: row.state for row in of["effect"]},
        reviews={row.name: row.state for row in of["review"]},
        postings=frozenset(row.name for row in of["posting"]),
        quotes=frozenset(row.name for row in of["quote"]),
        events=sum(row.number for row in of["events"]),
    )


def _look() -> CompoundSelect[Any]:
    """Everything at once: each payment of a restored database is looked at, and most lack nothing."""

    def part(kind: str, name: Any, state: Any = "", number: Any = 0) -> Select[Any]:
        columns: tuple[Any, ...] = (cast(state, String).label("state"), cast(number, Integer).label("number"))
        return select(literal(kind).label("kind"), cast(name, String).label("name"), *columns)

    objects: Any = bindparam("objects", expanding=True)
    is_the_payment = bindparam("payment", type_=String)
    payment, refund, effect, review = payments.c, refunds.c, effects.c, reviews.c
    return union_all(
        part("payment", payment.id, payment.status, payment.sequence).where(payment.id == is_the_payment),
        part("refund", refund.id, refund.status, refund.sequence).where(refund.id.in_(objects)),
        part("effect", effect.key, effect.state).where(effect.payment_id == is_the_payment),
        part("review", review.id, review.status).where(review.payment_id == is_the_payment),
        part("posting", postings.c.key).where(postings.c.object_id.in_(objects)),
        part("quote", quotes.c.id).where(quotes.c.payment_id == is_the_payment),
        part("events", "", number=func.count()).select_from(events).where(events.c.object_id.in_(objects)),
    )


_LOOK = _look()


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
