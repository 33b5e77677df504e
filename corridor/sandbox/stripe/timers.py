"""What happens by itself when time passes: availability, lapses, late refunds, disputes, payouts."""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from corridor.sandbox.stripe import disputes, intents, refunds, settlement
from corridor.sandbox.stripe.work import Work

# Small enough that a request never waits noticeably behind a burst of due timers.
BATCH = 200

ACTIONS: Mapping[str, Callable[[Work, str], None]] = {
    "make_available": settlement.make_available,
    "settle_asynchronous_charge": settlement.settle_asynchronous_charge,
    "mark_paid": settlement.mark_paid,
    "expire_authorization": intents.expire_authorization,
    "complete_refund": refunds.complete,
    "fail_refund": refunds.fail,
    "open_dispute": disputes.open_dispute,
}


@dataclass(frozen=True)
class Timer:
    """One planned action on one object."""

    sequence: int
    action: str
    subject: str


def due(connection: sqlite3.Connection, now_ms: int) -> list[Timer]:
    """The next timers to run, oldest first."""
    rows = connection.execute(
        "SELECT sequence, action, subject FROM timers WHERE due_ms <= ? ORDER BY due_ms, sequence LIMIT ?",
        (now_ms, BATCH),
    )
    return [Timer(row["sequence"], row["action"], row["subject"]) for row in rows]


def run_one(work: Work, timer: Timer) -> None:
    """Forget a timer and run it, in one transaction; a no-op if someone else ran it meanwhile."""
    gone = work.connection.execute("DELETE FROM timers WHERE sequence = ?", (timer.sequence,)).rowcount
    if gone:
        ACTIONS[timer.action](work, timer.subject)


def hasten(work: Work, *actions: str) -> None:
    """Make timers of these actions due now (control API: settle now)."""
    marks = ", ".join("?" for _ in actions)
    sql = f"UPDATE timers SET due_ms = ? WHERE action IN ({marks})"  # noqa: S608 - question marks only
    work.connection.execute(sql, (work.now_ms, *actions))
