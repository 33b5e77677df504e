"""The breaker of one worker process: notices that a provider fails one payment after another, and says so at the door.

It never stops a call. What is accepted is carried on and looked up; only new work is kept out for a while.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from corridor.domain.outcome import Outcome, ProviderAnswer
from corridor.storage import outages
from corridor.storage.database import Database
from corridor.storage.outages import Cause

EFFECTS_IN_A_ROW = 3
"""Different effects that failed with no answer between them: one sick payment, sent again and again, is no outage."""
KEEP_OUT = timedelta(seconds=15)
"""Then payments are let in again and are the test; if they fail too, the outage goes on."""


@dataclass
class Breaker:
    """Counts what came of sends, by provider."""

    database: Database
    _failing: dict[str, set[str]] = field(default_factory=dict)
    _open: set[str] = field(default_factory=set)

    async def note(self, provider: str, effect_key: str, answer: ProviderAnswer, now: datetime) -> None:
        """Count one send. A failure among answers changes nothing."""
        if not _is_failure(answer):
            self._failing.pop(provider, None)
            if provider in self._open:
                self._open.discard(provider)
                await self.database.write(outages.end, provider, Cause.FAILING)
            return
        failing = self._failing.setdefault(provider, set())
        failing.add(effect_key)
        if len(failing) >= EFFECTS_IN_A_ROW:
            self._open.add(provider)
            detail = f"{len(failing)} effects in a row without an answer; last: {answer.evidence.note}"
            await self.database.write(outages.note, provider, Cause.FAILING, detail, now, now + KEEP_OUT)


def _is_failure(answer: ProviderAnswer) -> bool:
    """No answer, or one that says the provider itself is ill. Being asked to slow down (429) is neither."""
    status = answer.evidence.http_status
    return answer.outcome in (Outcome.UNKNOWN, Outcome.NOT_SENT) and (status is None or status >= 500)
