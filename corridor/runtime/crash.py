"""Named crash points: places where a test may kill, pause or fail the process; nothing unless armed.

Armed by the environment: `CORRIDOR_CRASH_AT=name[:hit]` and `CORRIDOR_CRASH_DO=kill|raise|pause:SECONDS`. Sandbox
mode only; live settings refuse the variable.
"""

import os
import signal
import time
from collections import Counter

POINTS = (
    "payment.accepted",
    "workflow.started",
    "intent.committed",
    "provider.before_send",
    "provider.answer_read",
    "outcome.committed",
    "webhook.stored",
    "webhook.routed",
    "settlement.posted",
    "delivery.sent",
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
    wanted, _, hit = armed.partition(":")
    if wanted != name:
        return
    _hits[name] += 1
    if _hits[name] == int(hit or 1):
        _act(name, os.environ.get("CORRIDOR_CRASH_DO", "kill"))


def _act(name: str, action: str) -> None:
    kind, _, seconds = action.partition(":")
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "pause":
        time.sleep(int(seconds))
    if kind == "raise":
        raise Crashed(name)
