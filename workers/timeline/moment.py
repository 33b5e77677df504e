"""One moment of a payment: how it stood after an event, what caused that event, and what was still open then."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, select

from corridor.domain.effect import EffectState
from corridor.domain.failure import broken
from corridor.domain.payment import StatusReason
from corridor.domain.quote import Quote
from corridor.ledger import chart
from corridor.storage import effects
from corridor.storage.ledger_tables import entries
from corridor.storage.records import Json, time_view
from workers.timeline.rows import Rows, shown
from workers.timeline.story import Balance, Cause, Happening, Kind, Moment, Place

_BY_COMMAND = {
    StatusReason.CANCELED_BY_MERCHANT: ("merchant", "the merchant asked to cancel"),
    StatusReason.CANCELED_BY_OPERATOR: ("person", "an operator canceled the workflow"),
}
_BY_TIMER = {
    StatusReason.AUTHENTICATION_ABANDONED: "the buyer's time for the challenge ran out",
    StatusReason.AUTHORIZATION_EXPIRED: "the network's window for capturing ended",
    StatusReason.RATE_UNAVAILABLE: "no liquidity provider offered a rate in time",
    StatusReason.SLIPPAGE_EXCEEDED: "the lock ran out and the new rate was past the merchant's limit",
    StatusReason.NOT_SENT: "nothing reached the provider, proven twice",
}
_NEAR = timedelta(seconds=5)
"""A workflow step is reported to Temporal after its transaction; by this much the two may lie apart."""
_CLOCK_GRAIN = timedelta(milliseconds=2)


def moment(connection: Connection, rows: Rows, story: Sequence[Happening], event: Happening) -> Moment:
    """The payment as it was after `event`, which is one of `story`. Reads balances in the caller's snapshot."""
    at = event.at
    after = [row for row in rows.events if _is_until(row, event)]
    latest = {row.object_id: row for row in sorted(after, key=lambda it: it.sequence)}
    payment = latest.get(rows.payment.id) or broken("a payment begins with its first event")
    return Moment(
        event=event,
        payment=shown(payment.data),
        refunds=tuple(shown(latest[name].data) for name in rows.refund_ids if name in latest),
        cause=cause_of(event, story),
        balances=_balances(connection, rows, at),
        open_effects=tuple(_open_effect(row) for row in rows.effects if _is_open(row, at)),
        open_reviews=tuple(
            {
                "review": row.id,
                "object": row.object_id,
                "reason": row.reason,
                "since": time_view(row.created_at),
            }
            for row in rows.reviews
            if row.created_at <= at and (row.decided_at is None or row.decided_at > at)
        ),
        deadlines=_deadlines(rows, payment.data),
    )


def _is_until(row: Row[Any], event: Happening) -> bool:
    """An object's own events are numbered; those of the others lie before it by time."""
    if row.object_id == event.object_id:
        return bool(row.sequence <= event.facts["sequence"])
    return bool(row.created_at <= event.at)


# --- what caused it ---------------------------------------------------------------------------------------------


def cause_of(event: Happening, story: Sequence[Happening]) -> Cause:
    """Who or what acted. Rows of one transaction carry one time; what woke the workflow is the last thing before it."""
    together = [
        it for it in story if it.transaction == event.at and it.kind not in (Kind.EVENT, Kind.WORKFLOW)
    ]
    step, trigger = _step_and_trigger(event, story)
    evidence = tuple(it for it in (trigger, step) if it is not None) + tuple(together)
    actor, text = _actor(event, {it.kind: it for it in reversed(together)}, step, trigger)
    return Cause(actor, text, evidence)


def _actor(
    event: Happening, together: dict[Kind, Happening], step: Happening | None, trigger: Happening | None
) -> tuple[str, str]:
    if event.facts["type"].endswith(".accepted"):
        return "merchant", f"the merchant's request was accepted ({event.facts['type']})"
    decided = together.get(Kind.REVIEW_DECIDED)
    if decided is not None and decided.facts["decided_by"] not in ("evidence", "payment"):
        return "person", decided.text
    if Kind.ANSWER in together:
        return "provider", together[Kind.ANSWER].text + _asked_how(step, trigger)
    settled = together.get(Kind.POSTING)
    if settled is not None and settled.facts["kind"].startswith(("settle", "refund_settled")):
        return "provider", f"a row of the provider's settlement report was booked: {settled.facts['posting']}"
    if Kind.RISK in together:
        return "risk", together[Kind.RISK].text
    return _by_reason(event, step, trigger)


def _by_reason(event: Happening, step: Happening | None, trigger: Happening | None) -> tuple[str, str]:
    reason = event.facts["status_reason"]
    if reason in _BY_COMMAND:
        return _BY_COMMAND[StatusReason(reason)]
    if reason in _BY_TIMER:
        return "timer" if "expired" in event.facts["type"] else "workflow", _BY_TIMER[StatusReason(reason)]
    if event.facts["status"] == "requires_action":
        return "provider", "the provider asked for the buyer's authentication" + _asked_how(step, trigger)
    if reason == StatusReason.OUTCOME_UNKNOWN:
        return "workflow", "every look at the provider was spent without a proof: a person is asked"
    if step is not None:
        return "workflow", step.text + (f", after {trigger.text}" if trigger is not None else "")
    return "workflow", f"a step of the workflow recorded {event.facts['type']}"


def _asked_how(step: Happening | None, trigger: Happening | None) -> str:
    if step is None:
        return ""
    return f" — by {step.text}" + (f", woken by {trigger.text}" if trigger is not None else "")


def _step_and_trigger(
    event: Happening, story: Sequence[Happening]
) -> tuple[Happening | None, Happening | None]:
    """The step that wrote the event, and what had woken its workflow before that step was scheduled."""
    steps = [(it.place, it) for it in story if it.place is not None and it.place.scheduled is not None]
    wrote = [(place, it) for place, it in steps if _wrote(it, event)] or [
        (place, it) for place, it in steps if _was_under_way(place, it, event)
    ]
    if not wrote:
        return None, None
    place, step = min(wrote, key=lambda it: (it[1].at, it[0].number))
    own = [(it.place, it) for it in story if it.place is not None and it.object_id == step.object_id]
    woken = [(it[0].number, it[1]) for it in own if it[0].is_wake and it[0].number < (place.scheduled or 0)]
    return step, max(woken, key=lambda it: it[0])[1] if woken else None


def _wrote(step: Happening, event: Happening) -> bool:
    """A step tells how far it brought its objects; the first that came this far wrote the event."""
    return bool(step.facts.get("wrote", {}).get(event.object_id, 0) >= event.facts["sequence"])


def _was_under_way(place: Place, step: Happening, event: Happening) -> bool:
    """For histories of before steps told that: the object's own step that ended next."""
    begun = place.began is not None and place.began <= event.at + _NEAR
    return begun and step.object_id == event.object_id and event.at <= step.at + _CLOCK_GRAIN


# --- what was open, and what had moved --------------------------------------------------------------------------


def _is_open(row: Row[Any], at: datetime) -> bool:
    ended = EffectState(row.state).is_final and row.resolved_at is not None and row.resolved_at <= at
    return bool(row.declared_at <= at) and not ended


def _open_effect(row: Row[Any]) -> Json:
    return {
        "effect": row.key,
        "operation": row.operation,
        "amount": str(effects.amount(row)),
        "declared_at": time_view(row.declared_at),
        "resolved_at": time_view(row.resolved_at),
        "state_now": row.state,
    }


def _deadlines(rows: Rows, payment: Json) -> Json:
    """The payment's own, and the end of the lock it held."""
    lock = next((row for row in rows.quotes if row.id == payment["quote"]), None)
    until = None if lock is None else time_view(Quote.model_validate(lock.body).expires_at)
    return {**payment["deadlines"], "quote_expires_at": until}


def _balances(connection: Connection, rows: Rows, at: datetime) -> tuple[Balance, ...]:
    """Accounts the payment had touched by then; whole accounts are folded up to its last posting of that time."""
    until = [posted for posted in rows.postings if posted.at <= at]
    moved: dict[str, int] = defaultdict(int)
    for posted in until:
        for leg in posted.posting.entries:
            moved[leg.account] += leg.amount.minor
    last = max((posted.id for posted in until), default=0)
    held = _held(connection, moved, last)
    return tuple(
        Balance(account, chart.currency_of(account), moved[account], held[account])
        for account in sorted(moved)
    )


def _held(connection: Connection, accounts: Iterable[str], last_posting: int) -> dict[str, int]:
    query = (
        select(entries.c.account, func.sum(entries.c.amount_minor))
        .where(entries.c.account.in_(list(accounts)), entries.c.posting_id <= last_posting)
        .group_by(entries.c.account)
    )
    return {account: int(total) for account, total in connection.execute(query)}
