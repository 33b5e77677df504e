"""The named measurements of Corridor and the functions that record them.

Labels have few values and carry nothing personal: never a payment id, a merchant's customer or a message.
Without a meter provider (tests, tools) recording costs next to nothing and goes nowhere.
"""

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

_meter = metrics.get_meter("corridor")

_payments = _meter.create_counter("corridor.payments", description="payments that reached this outcome")
_answers = _meter.create_histogram(
    "corridor.answer",
    unit="s",
    description="time the buyer waits for the answer to a payment",
    explicit_bucket_boundaries_advisory=[0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8],
)
_provider_calls = _meter.create_histogram(
    "corridor.provider.call",
    unit="s",
    description="duration of one provider call by its outcome",
    explicit_bucket_boundaries_advisory=[0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6],
)
_unknown = _meter.create_gauge("corridor.unknown_outcomes", description="effects whose outcome is not known")
_unknown_age = _meter.create_gauge(
    "corridor.unknown_outcomes.oldest", unit="s", description="age of the oldest"
)
_reviews = _meter.create_gauge("corridor.reviews", description="payments that wait for a person")
_review_age = _meter.create_gauge("corridor.reviews.oldest", unit="s", description="age of the oldest review")
_down = _meter.create_gauge("corridor.provider.down", description="1 while a provider does not answer")
_rates_age = _meter.create_gauge(
    "corridor.reference_rates.age", unit="d", description="days since the newest known reference rates"
)
_clock = _meter.create_gauge(
    "corridor.clock.ahead", unit="s", description="this machine's clock against the database's"
)
_compensations = _meter.create_counter("corridor.compensation.retries", description="undo steps tried again")
_webhook_lag = _meter.create_histogram(
    "corridor.webhook.lag",
    unit="s",
    description="from the provider's event to its arrival here",
    explicit_bucket_boundaries_advisory=[0.5, 1, 2, 5, 15, 60, 300, 1800, 7200],
)
_deliveries = _meter.create_counter(
    "corridor.webhook.deliveries", description="attempts to notify a merchant"
)
_contradicted = _meter.create_counter(
    "corridor.proofs.contradicted", description="money seen where none was to move; look at each"
)
_webhooks_refused = _meter.create_counter(
    "corridor.provider.webhooks.refused", description="webhooks whose signature does not verify; alert on any"
)
_requests = _meter.create_counter(
    "corridor.api.requests", description="answers of the API by class of status"
)
_failed_turns = _meter.create_counter(
    "corridor.relay.failures", description="turns of a relay loop that failed and are tried again"
)
_inbox = _meter.create_gauge("corridor.inbox.waiting", description="provider webhooks not placed yet")
_inbox_age = _meter.create_gauge("corridor.inbox.oldest", unit="s", description="age of the oldest of them")
_inbox_late = _meter.create_gauge(
    "corridor.inbox.late", unit="s", description="since when one of them should have been looked at"
)
_overdue = _meter.create_gauge("corridor.webhook.overdue", description="webhook attempts past their time")
_overdue_age = _meter.create_gauge(
    "corridor.webhook.overdue.oldest", unit="s", description="delay of the latest"
)
_unplaced = _meter.create_gauge("corridor.events.unplaced", description="events not in the feed yet")
_unsettled = _meter.create_gauge(
    "corridor.settlement.overdue", description="captured payments whose settlement did not come in time"
)
_unsettled_age = _meter.create_gauge(
    "corridor.settlement.overdue.oldest", unit="s", description="delay of the latest of them"
)
_unbalanced = _meter.create_gauge(
    "corridor.settlement.unbalanced", description="payouts whose rows do not add up to their control total"
)
_watched = _meter.create_gauge(
    "corridor.watch.last_success.timestamp", unit="s", description="when the gauges above were last true"
)


def payment_reached(status: str, provider: str, corridor: str) -> None:
    """Count a payment at `captured`, `failed`, `settled` …; corridor as `DE-EUR:CN-CNY`."""
    _payments.add(1, {"outcome": status, "provider": provider, "corridor": corridor})


def answered(seconds: float, answer: str) -> None:
    """Time to the API's answer; `answer` is `final`, `accepted` (202) or `refused`."""
    _answers.record(seconds, {"answer": answer})


def provider_called(seconds: float, provider: str, operation: str, outcome: str) -> None:
    """Duration and outcome of one call to a provider."""
    _provider_calls.record(seconds, {"provider": provider, "operation": operation, "outcome": outcome})


def provider_down(is_down: bool, provider: str) -> None:
    """Whether the provider gave no sign of life lately; new work for it is refused then."""
    _down.set(int(is_down), {"provider": provider})


def unknown_outcomes(count: int, oldest_seconds: float, provider: str) -> None:
    """How many effects have no known outcome now, and the age of the oldest (0 if there is none)."""
    _unknown.set(count, {"provider": provider})
    _unknown_age.set(oldest_seconds, {"provider": provider})


def reviews_waiting(count: int, oldest_seconds: float) -> None:
    """How many payments wait for a person now, and since when the oldest."""
    _reviews.set(count)
    _review_age.set(oldest_seconds)


def clock_ahead(seconds: float) -> None:
    """How far this machine's clock is ahead of the database's; negative when it is behind."""
    _clock.set(seconds)


def compensation_retried(operation: str) -> None:
    """An undo step did not succeed and is tried again; each of these deserves a look."""
    _compensations.add(1, {"operation": operation})


def webhook_received(lag_seconds: float, provider: str) -> None:
    """Lag between the provider's own time stamp and our receipt."""
    _webhook_lag.record(max(0.0, lag_seconds), {"provider": provider})


def reference_rate_age(days: int) -> None:
    """Conversions are refused once it exceeds `rate_max_age_hours`."""
    _rates_age.set(days)


def history_export_lag(seconds: Callable[[], float | None]) -> None:
    """Ask this at every scrape: a run that ended longer ago than so many seconds is in the archive. None: not known.

    Asked, not told, so that it grows while an export hangs.
    """

    def observe(_: CallbackOptions) -> Iterator[Observation]:
        if (lag := seconds()) is not None:
            yield Observation(lag)

    _meter.create_observable_gauge(
        "corridor.history.export.lag",
        [observe],
        unit="s",
        description="every run that ended longer ago is archived",
    )


def asyncio_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Ask at every scrape how many tasks of this loop have not ended: one that everybody forgot stays among them."""

    def observe(_: CallbackOptions) -> Iterator[Observation]:
        yield Observation(len(asyncio.all_tasks(loop)))

    _meter.create_observable_gauge(
        "corridor.asyncio.tasks", [observe], description="tasks of this process's event loop"
    )


def webhook_delivered(result: str) -> None:
    """One attempt to notify a merchant: `delivered`, `refused` (an HTTP error) or `unreachable`."""
    _deliveries.add(1, {"result": result})


def provider_webhook_refused(provider: str, times: int = 1) -> None:
    """A signature that does not verify. Once with 0 `times` at the start, else the first one is no increase."""
    _webhooks_refused.add(times, {"provider": provider})


def proof_contradicted(provider: str, times: int = 1) -> None:
    """The provider shows money of an effect that is on record as never made. Once with 0 `times` at the start."""
    _contradicted.add(times, {"provider": provider})


def request_answered(method: str, route: str, status: int) -> None:
    """One answer of the API; `route` is its template, never the path that was asked for."""
    _requests.add(1, {"method": method, "route": route, "status": f"{status // 100}xx"})


def turn_failed(loop: str) -> None:
    """A turn of a relay loop failed and is tried again."""
    _failed_turns.add(1, {"loop": loop})


def inbox_waiting(count: int, oldest_seconds: float, late_seconds: float) -> None:
    """Webhooks of providers that are stored and whose meaning is not settled yet; one nobody can place stays for days.

    `late_seconds`: since when the first of them should have been looked at; seconds, while anybody looks.
    """
    _inbox.set(count)
    _inbox_age.set(oldest_seconds)
    _inbox_late.set(late_seconds)


def webhooks_overdue(count: int, oldest_seconds: float) -> None:
    """Webhooks to merchants whose next attempt should have been made."""
    _overdue.set(count)
    _overdue_age.set(oldest_seconds)


def events_unplaced(count: int) -> None:
    """Events that merchants do not see yet."""
    _unplaced.set(count)


def settlements_overdue(count: int, oldest_seconds: float) -> None:
    """Captured payments that no payout has covered in time, and by how much the first is late."""
    _unsettled.set(count)
    _unsettled_age.set(oldest_seconds)


def batches_unbalanced(count: int) -> None:
    """Payouts whose rows do not add up to what the provider says it paid."""
    _unbalanced.set(count)


def watched(at: datetime) -> None:
    """The queues were counted; a gauge that is not set any more keeps its last value, so this is what tells."""
    _watched.set(at.timestamp())
