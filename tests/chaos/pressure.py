"""How buyers fared in the rush (F16): at the merchant it runs on, at the others, and in the rest of the run."""

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import httpx

from tests.chaos.arrivals import HOT_SELLER, Arrival
from tests.chaos.liveness import percentile
from tests.chaos.plan import Plan
from tests.chaos.shopping import Order

PATH = "/v1/payments"
NOT_NOW = (429, 503)


@dataclass
class Answers:
    """Every answer of the API: by status, and of payments also how long it took. Hangs on the shops' connection."""

    by_status: Counter[str] = field(default_factory=Counter)
    waits: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """By idempotency key, which for a payment is the order's id: status and seconds of each answer."""

    def listen(self, client: httpx.AsyncClient) -> None:
        client.event_hooks = {"request": [self._begin], "response": [self._end]}

    async def _begin(self, request: httpx.Request) -> None:
        request.extensions["begun"] = time.monotonic()

    async def _end(self, answer: httpx.Response) -> None:
        self.by_status[str(answer.status_code)] += 1
        if answer.request.url.path == PATH and answer.request.method == "POST":
            took = time.monotonic() - float(answer.request.extensions["begun"])
            key = answer.request.headers["Idempotency-Key"]
            self.waits.setdefault(key, []).append((answer.status_code, took))


def told(
    plan: Plan, answers: Answers, orders: Collection[Order], ended: Collection[str]
) -> dict[str, Mapping[str, float]]:
    """Orders, what became of them, and their answers, by where and when they were placed. `ended`: payments' ids."""
    placed: dict[str, list[Order]] = {}
    for order in orders:
        placed.setdefault(_place(plan, order.arrival), []).append(order)
    return {name: dict(_figures(found, answers, ended)) for name, found in sorted(placed.items())}


def _place(plan: Plan, arrival: Arrival) -> str:
    if not plan.is_in_rush(arrival):
        return "before and after"
    return "in the rush, where it is" if arrival.seller == HOT_SELLER else "in the rush, elsewhere"


def _figures(orders: list[Order], answers: Answers, ended: Collection[str]) -> Iterator[tuple[str, float]]:
    accepted = [order.payment_id for order in orders if order.payment_id]
    waits = [wait for order in orders for wait in answers.waits.get(order.arrival.id, ())]
    good = [seconds for status, seconds in waits if status < 300]
    yield "orders", len(orders)
    yield "accepted", len(accepted)
    yield "ended", sum(payment_id in ended for payment_id in accepted)
    yield "answered 429 or 503", sum(status in NOT_NOW for status, _ in waits)
    yield "p50 seconds", round(percentile(good, 50), 2)
    yield "p95 seconds", round(percentile(good, 95), 2)
