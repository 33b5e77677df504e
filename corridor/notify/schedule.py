"""When a webhook is tried again, and what an answer means. Pure; the times are Standard Webhooks' own example.

After the first attempt: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h, each after the one before, so a
receiver has a little over three days (https://github.com/standard-webhooks/standard-webhooks, "deliverability").
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum

DELAYS_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""`DELAYS_SECONDS[n - 1]` is the pause after attempt n; the attempt after the last one does not exist."""

JITTER_PERMILLE = 100
RETRY_AFTER_LIMIT_SECONDS = 3_600
PATIENCE = timedelta(days=5)
"""An endpoint that has failed for so long without one success is disabled."""


class Verdict(StrEnum):
    """What is done with the delivery after an attempt; `disable` also ends the endpoint's others."""

    DELIVERED = "delivered"
    RETRY = "retry"
    DISABLE = "disable"


@dataclass(frozen=True)
class Judgement:
    """A verdict and, for a retry, what the receiver asked for in Retry-After, capped."""

    verdict: Verdict
    retry_after_seconds: int = 0


def judge(status_code: int, retry_after: str | None, now: datetime) -> Judgement:
    """2xx is delivered; 410 means "stop sending"; everything else, redirects included, is a failed attempt."""
    if 200 <= status_code < 300:
        return Judgement(Verdict.DELIVERED)
    if status_code == 410:
        return Judgement(Verdict.DISABLE)
    asked = _asked_seconds(retry_after, now) if status_code in (429, 503) else 0
    return Judgement(Verdict.RETRY, min(asked, RETRY_AFTER_LIMIT_SECONDS))


def pause_seconds(attempt: int, spread_permille: int, retry_after_seconds: int = 0) -> int | None:
    """The pause after attempt number `attempt` (from 1), or None when it was the last.

    `spread_permille` (0 … 1000, drawn by the workflow) puts the pause within ±10 % of the schedule. A receiver's
    Retry-After can lengthen it, never shorten it.
    """
    if attempt > len(DELAYS_SECONDS):
        return None
    scheduled = DELAYS_SECONDS[attempt - 1]
    jitter = (2 * spread_permille - 1_000) * JITTER_PERMILLE * scheduled // 1_000_000
    return max(scheduled + jitter, retry_after_seconds)


def is_out_of_patience(failing_since: datetime | None, now: datetime) -> bool:
    """True when the endpoint has not had one success since `failing_since` and the limit has passed."""
    return failing_since is not None and now - failing_since >= PATIENCE


def _asked_seconds(retry_after: str | None, now: datetime) -> int:
    """Seconds of a Retry-After header in either form of RFC 9110 §10.2.3; a malformed one asks for nothing."""
    if retry_after is None:
        return 0
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return int(text[:9])
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0, int((moment - now).total_seconds()))
    except (ValueError, OverflowError):  # no date at all, or with a zone or year that no date can have
        return 0
