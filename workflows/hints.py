"""Hints: verified webhooks that say something happened. A hint wakes a waiting workflow; it never is the fact."""

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta

from temporalio import workflow

from workflows.messages import ProviderHint

REMEMBERED = 64
"""Provider event ids kept to drop repeats; more than any provider sends about one payment."""


HOUR, DAY = 3600, 86_400
NEWS_ARE_KEPT = "news-outlive-commands"


def seconds_until(moment: datetime) -> float:
    """Never negative."""
    return max((moment - workflow.now()).total_seconds(), 0.0)


class Pace:
    """How often an open review asks the provider by itself: hourly at first, daily in the end.

    A question nobody answers must not fill its history: Temporal ends a workflow at 50 Ki events.
    """

    def __init__(self) -> None:
        self._seconds = HOUR

    def next_seconds(self) -> int:
        seconds, self._seconds = self._seconds, min(2 * self._seconds, DAY)
        return seconds


class Hints:
    """Whether news arrived since last asked; repeats of one provider event count once."""

    def __init__(self) -> None:
        self._seen: deque[str] = deque(maxlen=REMEMBERED)
        self._news = False

    def receive(self, hint: ProviderHint) -> None:
        if hint.provider_event_id not in self._seen:
            self._seen.append(hint.provider_event_id)
            self._news = True

    def forget(self) -> None:
        """What arrived so far is answered by what the provider just told us itself."""
        self._news = False

    async def wait(self, seconds: float, summary: str, wake: Callable[[], bool] = lambda: False) -> bool:
        """Wait for news, for `wake()`, or for the time to pass, on a durable timer shown as `summary`.

        Returns False when the time has passed. News that come together with what `wake()` waits for are kept: whoever
        answers that does not look.
        """
        try:
            await workflow.wait_condition(
                lambda: self._news or wake(), timeout=timedelta(seconds=seconds), timeout_summary=summary
            )
        except TimeoutError:
            return False
        if not (self._news and wake() and workflow.patched(NEWS_ARE_KEPT)):
            self._news = False
        return True
