"""What shops and buyers do while everything breaks: each order's story, told with patience.

A shop repeats with the same key until it is answered. What the API may answer is narrow even now: a request that was
good is never refused as bad, and nothing is answered 500 (503 says "not now" and is repeated).
"""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from api.cli.demo.drive import money
from api.cli.demo.shop import Answer, Json, NoAnswer, Shop
from corridor.domain.money import Money
from tests.chaos.arrivals import Arrival, Story

PATIENCE_SECONDS = 600.0
"""A capture whose outcome stays unknown is with a person after minutes; a shop that left would leave it authorised."""
WAITING = ("processing",)
OPEN = ("processing", "requires_review", "requires_action")
CLOSES = 60
"""Cancels of one order, ten seconds apart in the end, before its shop says that something is wrong."""
_NO_LONGER = frozenset({"state_conflict", "outcome_unknown", "slippage_exceeded", "rate_unavailable"})
"""Refusals of a command that came too late, lost against another, or whose rate a wrong clock took for expired."""
_NO_REFUND = _NO_LONGER | {"refund_exceeds_captured", "insufficient_available"}


class Surprise(Exception):
    """The API answered what no state of the world allows; the text says what."""


@dataclass
class Order:
    """One order on its way, and what its shop saw. `quote_gone`: when a quote that was not there any more was given."""

    arrival: Arrival
    payment_id: str | None = None
    quote_gone: datetime | None = None
    refund_ids: list[str] = field(default_factory=list)
    surprise: str | None = None
    gave_up: str | None = None
    is_over: bool = False


@dataclass
class Street:
    """Everybody who takes part."""

    shops: Mapping[str, Shop]
    sandbox: httpx.AsyncClient
    orders: list[Order] = field(default_factory=list)
    _expected: dict[str, Order] = field(default_factory=dict)

    def expect(self, arrival: Arrival) -> None:
        """From now on there is this order, though its story may begin a moment later."""
        self._expected[arrival.id] = Order(arrival)
        self.orders.append(self._expected[arrival.id])

    def order(self, arrival: Arrival) -> Order:
        return self._expected[arrival.id]

    @property
    def over(self) -> int:
        return sum(order.is_over for order in self.orders)

    @property
    def acknowledged(self) -> list[str]:
        return [order.payment_id for order in self.orders if order.payment_id]


class Buying:
    """The steps of one order; the stories below put them together."""

    def __init__(self, street: Street, order: Order) -> None:
        self.street, self.order, self.arrival = street, order, order.arrival
        self.shop = street.shops[order.arrival.seller]

    async def pay(self, **changes: object) -> None:
        self._paid(await self.shop.post("/v1/payments", self.request(**changes), self.arrival.id))

    async def pay_at(self, quote: Callable[[str], Awaitable[str | None]]) -> None:
        """With a quote, where there is one; where it is gone, as with a database, with a new one in a new request."""
        given, given_at = await quote("quote"), datetime.now(UTC)
        if given is None:
            await self.pay()
            return
        answer = await self.shop.post("/v1/payments", self.request(quote=given), self.arrival.id)
        if answer.code == "not_found":
            self.order.quote_gone = given_at
            again = await quote("quote-again")
            changes = {} if again is None else {"quote": again}
            answer = await self.shop.post("/v1/payments", self.request(**changes), f"{self.arrival.id}-again")
        self._paid(answer)

    def _paid(self, answer: Answer) -> None:
        self.expect(answer.status in (201, 202), f"POST /v1/payments: {answer.status} {answer.code}")
        found = answer.document["id"]
        self.expect(
            self.order.payment_id in (None, found), f"one key made {self.order.payment_id} and {found}"
        )
        self.order.payment_id = found

    async def past(self, *statuses: str) -> Json:
        return await self.shop.until(self.path, lambda it: it["status"] not in statuses, PATIENCE_SECONDS)

    async def command(self, name: str, body: Json | None = None, key: str = "") -> Answer:
        """Capture or cancel; too late is an answer too."""
        answer = await self.shop.post(f"{self.path}:{name}", body or {}, f"{self.arrival.id}-{key or name}")
        allowed = answer.status in (200, 202) or answer.code in _NO_LONGER
        self.expect(allowed, f"{name}: {answer.status} {answer.code}")
        return answer

    async def close(self) -> None:
        """The shop leaves nothing authorised: what was not captured after all is canceled."""
        for number in itertools.count():
            found = await self.past(*OPEN)
            if found["status"] != "authorized":
                return
            self.expect(number < CLOSES, f"close: still authorized after {number} cancels")
            await self.command("cancel", key=f"close-{number}")
            await asyncio.sleep(min(1.0 + number, 10.0))

    async def refund(self, minor: int, number: int = 1) -> None:
        amount = Money(minor, self.arrival.amount.currency)
        body = {"payment": self.order.payment_id, "amount": money(amount), "reason": "returned by the buyer"}
        answer = await self.shop.post("/v1/refunds", body, f"{self.arrival.id}-refund-{number}")
        self.expect(
            answer.status in (201, 202) or answer.code in _NO_REFUND, f"refund: {answer.status} {answer.code}"
        )
        if answer.status < 300:
            self.order.refund_ids.append(answer.document["id"])

    async def at_the_bank(self, button: str) -> None:
        """The buyer presses a button of the issuer's page, again and again until the page answers."""
        payment = await self.past(*WAITING)
        if payment["status"] != "requires_action":
            return
        for _ in range(20):
            with contextlib.suppress(httpx.TransportError):
                answer = await self.street.sandbox.post(f"{payment['next_action']['url']}/{button}")
                if answer.status_code < 500:  # the bank's own disk may be full
                    return
            await asyncio.sleep(0.5)

    @property
    def path(self) -> str:
        return f"/v1/payments/{self.order.payment_id}"

    def request(self, **changes: object) -> Json:
        it = self.arrival
        return {
            "amount": money(it.amount),
            "payment_method": {
                "type": "card",
                "provider_token": f"{it.token}_sandbox_{it.fault}" if it.fault else it.token,
                "fingerprint": f"card-of-{it.id}",
            },
            "buyer": {"country": it.country, "reference": f"buyer-of-{it.id}"},
            "slippage": {"max_bps": 300, "policy": "requote"},
            "merchant_reference": it.id,
            "return_url": f"https://{it.seller}.example/orders/{it.id}",
            "metadata": {"story": it.story.value},
            **changes,
        }

    def expect(self, holds: bool, otherwise: str) -> None:
        """Raises `Surprise`: a story does not go on after what should not have happened."""
        if not holds:
            raise Surprise(f"{self.arrival.id} ({self.order.payment_id}): {otherwise}")


Tale = Callable[[Buying], Awaitable[None]]
MANUAL = {"capture": "manual"}


async def _bought(buying: Buying) -> None:
    await buying.pay()


async def _sent_at_once(buying: Buying) -> None:
    await asyncio.gather(*(buying.pay() for _ in range(3)))


async def _other_body(buying: Buying) -> None:
    await buying.pay()
    other = Money(buying.arrival.amount.minor + 10, buying.arrival.amount.currency)
    answer = await buying.shop.post("/v1/payments", buying.request(amount=money(other)), buying.arrival.id)
    buying.expect(answer.code == "idempotency_key_reused", f"another body: {answer.status} {answer.code}")


async def _quoted(buying: Buying) -> None:
    settle = {"lantern-loom": "CNY", "kyoto-ceramics": "JPY", "porto-leather": "EUR", "thames-outdoor": "GBP",
              "brooklyn-vinyl": "USD", "fjord-design": "NOK"}.get(buying.arrival.seller)  # fmt: skip
    if settle in (None, buying.arrival.amount.currency):
        await buying.pay()
        return
    body = {"sell": money(buying.arrival.amount), "buy_currency": settle, "lock_seconds": 600}

    async def quote(key: str) -> str | None:
        answer = await buying.shop.post("/v1/quotes", body, f"{buying.arrival.id}-{key}")
        is_given = answer.status == 201
        buying.expect(is_given or answer.code == "rate_unavailable", f"quote: {answer.status} {answer.code}")
        return answer.document["id"] if is_given else None

    await buying.pay_at(quote)


def _at_the_bank(button: str | None) -> Tale:
    async def tale(buying: Buying) -> None:
        await buying.pay()
        await (buying.past(*WAITING) if button is None else buying.at_the_bank(button))

    return tale


async def _canceled_at_the_bank(buying: Buying) -> None:
    await buying.pay()
    await buying.past(*WAITING)
    await buying.command("cancel")


def _captured(share_percent: int) -> Tale:
    async def tale(buying: Buying) -> None:
        await buying.pay(**MANUAL)
        await buying.past(*WAITING)
        amount = Money(
            buying.arrival.amount.minor * share_percent // 1000 * 10, buying.arrival.amount.currency
        )
        await buying.command("capture", {"amount": money(amount)} if share_percent < 100 else None)
        await buying.close()

    return tale


async def _canceled(buying: Buying) -> None:
    await buying.pay(**MANUAL)
    await buying.past(*WAITING)
    await buying.command("cancel")
    await buying.close()


async def _capture_racing_cancel(buying: Buying) -> None:
    await buying.pay(**MANUAL)
    await buying.past(*WAITING)
    await asyncio.gather(buying.command("capture"), buying.command("cancel"))
    await buying.close()


def _refunded(share_percent: int, times: int = 1) -> Tale:
    """With `times` refunds at once whose sum exceeds the capture, the limit must hold."""

    async def tale(buying: Buying) -> None:
        await buying.pay()
        found = await buying.past(*OPEN)
        if found["status"] in ("captured", "settled"):
            minor = buying.arrival.amount.minor * share_percent // 1000 * 10
            await asyncio.gather(*(buying.refund(minor, number) for number in range(1, times + 1)))

    return tale


async def _reviewed(buying: Buying) -> None:
    await buying.pay()
    await buying.past("processing", "requires_review")


TALES: Mapping[Story, Tale] = {
    Story.BOUGHT: _bought,
    Story.DECLINED: _bought,
    Story.SENT_AT_ONCE: _sent_at_once,
    Story.OTHER_BODY: _other_body,
    Story.QUOTED: _quoted,
    Story.CHALLENGE_COMPLETED: _at_the_bank("complete"),
    Story.CHALLENGE_FAILED: _at_the_bank("fail"),
    Story.CHALLENGE_ABANDONED: _at_the_bank(None),
    Story.CANCELED_AT_THE_BANK: _canceled_at_the_bank,
    Story.CAPTURED: _captured(100),
    Story.CAPTURED_IN_PART: _captured(60),
    Story.CANCELED: _canceled,
    Story.CAPTURE_RACING_CANCEL: _capture_racing_cancel,
    Story.REFUNDED: _refunded(100),
    Story.REFUNDED_IN_PART: _refunded(40),
    Story.REFUNDS_RACING: _refunded(60, times=3),
    Story.REVIEW_APPROVED: _reviewed,
    Story.REVIEW_DECLINED: _reviewed,
    Story.REVIEW_DECIDED_TWICE: _reviewed,
}


async def tell(street: Street, arrival: Arrival) -> Order:
    """One order from its arrival to its end. What must not happen is kept as a surprise, for the report."""
    order = street.order(arrival)
    try:
        await TALES[arrival.story](Buying(street, order))
    except Surprise as surprise:
        order.surprise = str(surprise)
    except (NoAnswer, httpx.HTTPError) as error:
        order.gave_up = f"{type(error).__name__}: {error}"
    finally:
        order.is_over = True
    return order
