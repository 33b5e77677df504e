"""Named crash points: places where a test may kill, pause or fail the process; nothing unless armed.

Armed by the environment: `CORRIDOR_CRASH_AT=name[:hit][,name[:hit]…]` and `CORRIDOR_CRASH_DO=kill|raise|pause:SECONDS`.
Live settings refuse the variable. What is done is said on standard error first, so that a test can tell a point that fired from one that was never met.
"""

import os
import signal
import sys
import time
from collections import Counter

POINTS = (
    "payment.before_accept",
    "payment.accepted",
    "payment.started",
    "refund.accepted",
    "refund.started",
    "command.claimed",
    "command.sent",
    "preparation.before_commit",
    "preparation.committed",
    "declaration.before_commit",
    "declaration.committed",
    "reservation.before_commit",
    "reservation.committed",
    "decision.before_commit",
    "decision.committed",
    "move.before_commit",
    "move.committed",
    "provider.before_send",
    "provider.answer_read",
    "outcome.committed",
    "settlement.before_posting",
    "settlement.posted",
    "events.placed",
    "webhook.before_store",
    "webhook.stored",
    "webhook.taken",
    "webhook.routed",
    "delivery.created",
    "delivery.started",
    "delivery.before_send",
    "delivery.sent",
    "delivery.recorded",
)
VARIABLE = "CORRIDOR_CRASH_AT"
_hits: Counter[str] = Counter()


class Crashed(Exception):
    """Raised at an armed point whose action is `raise`."""


def crash_point(name: str) -> None:
    """Do what was armed for `name`, at the armed hit only. Costs one look-up when nothing is armed."""
    armed = os.environ.get(VARIABLE)
    if armed is None:
        return
    hits = {point: hit for point, _, hit in (one.partition(":") for one in armed.split(","))}
    if name not in hits:
        return
    _hits[name] += 1
    if _hits[name] == int(hits[name] or 1):
        _act(name, os.environ.get("CORRIDOR_CRASH_DO", "kill"))


def _act(name: str, action: str) -> None:
    sys.stderr.write(f"crash point {name}: {action}\n")
    sys.stderr.flush()
    kind, _, seconds = action.partition(":")
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "pause":
        time.sleep(int(seconds))
    if kind == "raise":
        raise Crashed(name)
