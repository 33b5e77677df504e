"""How many requests of one caller are in work at once, so that one merchant's rush leaves room for everybody else.

A request is in work until its answer is sent; one that waits for a payment's outcome occupies its place as long. Counted
in this process alone: behind a load balancer a caller has as many places as there are API processes times the limit.
"""

from collections import Counter

from starlette.types import Scope

from api.problems import Problem

_PLACES = "places"


class Crowd:
    """Places for each caller; `what` names them in a refusal."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._inside: Counter[str] = Counter()

    def enter(self, who: str, scope: Scope) -> None:
        """Take a place until this request is over (`leave`). Raises `Problem` 429 with Retry-After."""
        if self._inside[who] >= self._most:
            raise Problem(
                "concurrency_limited",
                f"{self._most} {self._what} of yours are open here, and no more at once. Nothing was done with this one: "
                "repeat it as it is; a request that it repeats goes on",
                facts={"limit": self._most},
                money_state="not_moved" if scope["method"] == "GET" else None,
            )
        self._inside[who] += 1
        scope["state"].setdefault(_PLACES, []).append((self, who))

    def _left_by(self, who: str) -> None:
        self._inside[who] -= 1
        if not self._inside[who]:
            del self._inside[who]


def leave(scope: Scope) -> None:
    """Give back every place this request has taken."""
    for crowd, who in scope["state"].pop(_PLACES, ()):
        crowd._left_by(who)  # noqa: SLF001 (this module's own)
