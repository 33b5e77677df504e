"""The proofs about what waits when all should be over: our inbox, the provider's queue, webhooks on their schedule.

Pure, like the others. Moments at which something is due were written by processes whose clocks may have been wrong on
purpose; `skews` says by how many seconds, and nothing is excused that none of those clocks explains.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from api.cli.audit.evidence import Kept, Undelivered
from api.cli.audit.proofs import Proof, proof
from corridor.notify import schedule
from corridor.storage.inbox import InboxState
from corridor.storage.inbox_routing import LAST_RETRY

LATE = timedelta(seconds=30)
"""What came due so shortly before we looked may be under way."""
_FURTHEST_PERMILLE = 1000
"""The jitter that makes a pause of the schedule as long as it gets."""


def on_schedule(
    undelivered: Iterable[Undelivered], now: datetime, skews: Iterable[int] = ()
) -> frozenset[str]:
    """Ids of events whose webhook rightly waits: tried twice at least, and for no longer than its schedule pauses then.

    The pause after the first attempt is seconds, so nothing may rest there.
    """
    clocks = (0, *skews)
    return frozenset(
        it.event_id
        for it in undelivered
        if it.attempts >= 2
        and it.next_attempt_at is not None
        and any(_is_pausing(it.attempts, it.next_attempt_at - timedelta(seconds=by), now) for by in clocks)
    )


def _is_pausing(attempts: int, due_at: datetime, now: datetime) -> bool:
    seconds = schedule.pause_seconds(attempts, _FURTHEST_PERMILLE)
    return seconds is not None and now - LATE < due_at <= now + timedelta(seconds=seconds)


def inbox_is_worked_off(
    inbox: Iterable[Kept], queue: Mapping[str, int], now: datetime, skews: Iterable[int] = ()
) -> Proof:
    """Each provider webhook was looked at when it was due, none contradicts what we concluded, none was given up.

    One that nobody can place is tried again for days: it may wait for its next turn, and no longer than a pause lasts.
    `queue`: the provider's webhooks by state.
    """
    inbox, clocks = list(inbox), (0, *skews)
    against = [
        f"{it.event_id} shows money of an effect that is on record as never made"
        for it in inbox
        if it.state == InboxState.CONTRADICTED
    ]
    against += [
        f"{it.event_id} is stored, due at {it.due_at}, and was looked at {it.tries} times"
        for it in inbox
        if it.state == InboxState.STORED
        and not any(_is_due_later(it.due_at - timedelta(seconds=by), now) for by in clocks)
    ]
    if exhausted := queue.get("exhausted", 0):
        against.append(f"{exhausted} webhooks were refused until the provider gave them up")
    states = Counter(it.state for it in inbox)
    notes = [f"{count} {state}" for state, count in sorted(states.items())]
    return proof("every provider webhook was worked off", len(inbox), "provider webhooks", against, notes)


def _is_due_later(due_at: datetime, now: datetime) -> bool:
    return now - LATE < due_at <= now + LAST_RETRY
