"""Drives the orders through the API as the merchants' backends, buyers and an operator would, each by its scenario.

What the API answered against the scenario is kept as a surprise; how payments really ended is proven later, from the
databases.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from api.cli.demo.orders import CLOSING, Order
from api.cli.demo.scenarios import SCENARIOS, Share
from api.cli.demo.shop import Answer, Json, NoAnswer, Shop
from corridor.domain import currency as iso
from corridor.domain.money import Money

IN_FLIGHT = 16
PATIENCE_SECONDS = 180.0
TRIES, PAUSE_SECONDS = 20, 3
SHORT_LOCK_SECONDS = 10
LONG_LOCK_SECONDS = 600
WIDE_SLIPPAGE = {"max_bps": 300, "policy": "requote"}
NO_SLIPPAGE = {"max_bps": 0, "policy": "reject"}


class Surprise(Exception):
    """The API answered what the scenario does not allow; the text says what."""


@dataclass
class Tale:
    """What one order went through, as its merchant saw it."""

    order: Order
    payment_id: str | None = None
    refund_ids: list[str] = field(default_factory=list)
    seconds: float = 0.0
    sends: int = 1
    surprise: str | None = None
    is_answered: bool = False
    is_over: bool = False


@dataclass
class Market:
    """Everybody who takes part, and the tales so far."""

    shops: Mapping[str, Shop]
    operator: Shop
    sandbox: httpx.AsyncClient
    tales: list[Tale] = field(default_factory=list)
    in_flight: int = 0

    @property
    def answered(self) -> int:
        return sum(tale.is_answered for tale in self.tales)

    @property
    def over(self) -> int:
        return sum(tale.is_over for tale in self.tales)


class Buying:
    """One order on its way. Its steps are small; the stories below put them together."""

    def __init__(self, market: Market, tale: Tale, gate: asyncio.Semaphore) -> None:
        self.market, self.tale, self.order, self._gate = market, tale, tale.order, gate
        self.shop = market.shops[tale.order.seller.name]
        self.scenario = SCENARIOS[tale.order.scenario]
        self.quote_id: str | None = None

    async def pay(self, lock_seconds: int | None = None, **changes: object) -> Answer:
        """Post the payment, with a quote if a lock is asked for, and wait for the answer; `IN_FLIGHT` at a time."""
        async with self._gate:
            self.market.in_flight += 1
            try:
                if lock_seconds is not None:
                    changes["quote"] = (await self.quote(lock_seconds))["id"]
                answer = await self.shop.post("/v1/payments", self.request(**changes), self.order.id)
            finally:
                self.market.in_flight -= 1
        self.tale.seconds, self.tale.sends, self.tale.is_answered = answer.seconds, answer.sends, True
        if answer.status in (201, 202):
            self.tale.payment_id = answer.document["id"]
        return answer

    async def buy(self, lock_seconds: int | None = None, **changes: object) -> Json:
        """Pay, and read on where the answer was "not yet"; the payment as it stands then."""
        answer = await self.pay(lock_seconds, **changes)
        self.expect(answer.status in (201, 202), f"POST /v1/payments answered {answer.status} {answer.code}")
        return answer.document if answer.status == 201 else await self.past("processing")

    async def past(self, *statuses: str) -> Json:
        return await self.shop.until(self._path(), lambda it: it["status"] not in statuses, PATIENCE_SECONDS)

    async def reach(self, *statuses: str) -> Json:
        return await self.shop.until(self._path(), lambda it: it["status"] in statuses, PATIENCE_SECONDS)

    async def command(self, name: str, body: Json | None = None) -> Answer:
        """Capture or cancel."""
        return await self.shop.post(f"{self._path()}:{name}", body or {}, f"{self.order.id}-{name}")

    async def refund(self, share: Share, number: int = 1) -> str:
        """Ask for a refund of a share of the payment; how it went: its status, or why it was refused."""
        amount = share.of(self.order.amount)
        body = {"payment": self.tale.payment_id, "amount": money(amount), "reason": "returned by the buyer"}
        answer = await self.shop.post("/v1/refunds", body, f"{self.order.id}-refund-{number}")
        if answer.status >= 400:
            return str(answer.code)
        refund = answer.document
        if answer.status == 202:
            path = f"/v1/refunds/{refund['id']}"
            refund = await self.shop.until(path, lambda it: it["status"] != "processing", PATIENCE_SECONDS)
        if refund["status"] == "failed":
            return str(refund["status_reason"])
        self.tale.refund_ids.append(refund["id"])
        return str(refund["status"])

    async def refunded(self, share: Share) -> None:
        """Ask until the merchant's balance suffices: a settled payment alone is short of its own fee."""
        ended = await self.refund(share)
        for number in range(2, TRIES):
            if ended != "insufficient_available":
                break
            await asyncio.sleep(PAUSE_SECONDS)
            ended = await self.refund(share, number)
        self.expect(ended in ("succeeded", "processing", "requires_review"), f"the refund ended as {ended}")

    async def quote(self, lock_seconds: int) -> Json:
        body = {
            "sell": money(self.order.amount),
            "buy_currency": self.order.seller.settle_currency,
            "lock_seconds": lock_seconds,
        }
        answer = await self.shop.post("/v1/quotes", body, f"{self.order.id}-quote")
        self.expect(answer.status == 201, f"POST /v1/quotes answered {answer.status} {answer.code}")
        self.quote_id = answer.document["id"]
        return answer.document

    async def at_the_bank(self, button: str) -> None:
        """The buyer presses a button of the issuer's page, as soon as the shop knows where that is."""
        payment = await self.past("processing")
        self.expect(payment["status"] == "requires_action", f"no challenge: {payment['status']}")
        answer = await self.market.sandbox.post(f"{payment['next_action']['url']}/{button}")
        self.expect(answer.status_code < 400, f"the bank's page answered {answer.status_code}")

    async def reviewed(self, decision: str, note: str) -> None:
        """An operator finds the payment among the open reviews and decides."""
        await self.reach("requires_review")
        listed = await self.market.operator.get("/v1/reviews", limit=100)
        review = next(it for it in listed["data"] if it["payment"] == self.tale.payment_id)
        body = {"decision": decision, "note": note}
        answer = await self.market.operator.post(
            f"/v1/reviews/{review['id']}:decide", body, f"{review['id']}-1"
        )
        self.expect(answer.status in (200, 202), f"the decision was answered {answer.status} {answer.code}")

    def request(self, **changes: object) -> Json:
        """The body of the payment; the buyer is named by a reference that nobody else has."""
        order = self.order
        return {
            "amount": money(order.amount),
            "payment_method": {
                "type": "card",
                "provider_token": self.scenario.token_of(order.card),
                "fingerprint": f"card-of-{order.id}",
            },
            "buyer": {"country": order.buyer_country, "reference": f"buyer-of-{order.id}"},
            "capture": self.scenario.capture.value,
            "merchant_reference": order.id,
            "return_url": f"https://{order.seller.name}.example/orders/{order.id}",
            "metadata": {"item": order.item, "scenario": order.scenario},
            **changes,
        }

    def expect(self, holds: bool, otherwise: str) -> None:
        """Raises `Surprise`: a story does not go on after what should not have happened."""
        if not holds:
            raise Surprise(otherwise)

    def _path(self) -> str:
        return f"/v1/payments/{self.tale.payment_id}"


def money(amount: Money) -> Json:
    return {"minor": amount.minor, "currency": amount.currency, "exponent": iso.exponent(amount.currency)}


Story = Callable[[Buying], Awaitable[None]]


async def _bought(buying: Buying) -> None:
    await buying.buy()


async def _sent_twice(buying: Buying) -> None:
    await asyncio.gather(buying.pay(), buying.pay())


async def _same_key_other_body(buying: Buying) -> None:
    await buying.buy()
    other = Money(buying.order.amount.minor + 10, buying.order.amount.currency)
    answer = await buying.shop.post("/v1/payments", buying.request(amount=money(other)), buying.order.id)
    buying.expect(answer.code == "idempotency_key_reused", f"another body was answered {answer.status}")


async def _over_limit(buying: Buying) -> None:
    answer = await buying.pay()
    buying.expect(answer.code == "limit_exceeded", f"an order over the limit was answered {answer.status}")


def _at_the_bank(button: str) -> Story:
    async def story(buying: Buying) -> None:
        await buying.buy()
        await buying.at_the_bank(button)

    return story


async def _abandoned(buying: Buying) -> None:
    payment = await buying.buy()
    buying.expect(payment["status"] == "requires_action", f"no challenge: {payment['status']}")


async def _quote_taken(buying: Buying) -> None:
    payment = await buying.buy(LONG_LOCK_SECONDS)
    buying.expect(payment["quote"] == buying.quote_id, "the payment took another quote than the shop's")


async def _quote_expired_before_payment(buying: Buying) -> None:
    quote = await buying.quote(5)
    await asyncio.sleep(6)
    refused = await buying.shop.post(
        "/v1/payments", buying.request(quote=quote["id"]), f"{buying.order.id}-with-quote"
    )
    buying.expect(refused.code == "quote_expired", f"an expired quote was answered {refused.status}")
    await buying.buy()


def _captured_after_the_lock(slippage: Json) -> Story:
    async def story(buying: Buying) -> None:
        await buying.buy(SHORT_LOCK_SECONDS, slippage=slippage)
        await asyncio.sleep(SHORT_LOCK_SECONDS)
        answer = await buying.command("capture")
        # Refused, or 202: giving up means voiding the authorisation, which may outlast the answer's deadline.
        as_wanted = answer.status != 200 if slippage is NO_SLIPPAGE else answer.status < 400
        buying.expect(as_wanted, f"the capture after the lock was answered {answer.status} {answer.code}")

    return story


def _commanded(name: str) -> Story:
    async def story(buying: Buying) -> None:
        payment = await buying.buy()
        buying.expect(payment["status"] in ("authorized", "requires_action"), f"{payment['status']} at once")
        amount = buying.scenario.captured.of(buying.order.amount)
        answer = await buying.command(name, {"amount": money(amount)} if name == "capture" else None)
        buying.expect(answer.status in (200, 202), f"{name} was answered {answer.status} {answer.code}")

    return story


def _refunded(share: Share, *, late: bool) -> Story:
    async def story(buying: Buying) -> None:
        await buying.buy()
        await (buying.reach("settled") if late else buying.past("processing"))
        await buying.refunded(share)

    return story


async def _refunds_racing(buying: Buying) -> None:
    await buying.buy()
    ended = await asyncio.gather(buying.refund(Share.PART, 1), buying.refund(Share.PART, 2))
    buying.expect(
        sorted(ended) == ["refund_exceeds_captured", "succeeded"], f"racing refunds ended as {ended}"
    )


def _reviewed(decision: str, note: str = "checked with the buyer by telephone") -> Story:
    async def story(buying: Buying) -> None:
        await buying.buy()
        await buying.reviewed(decision, note)

    return story


STORIES: Mapping[str, Story] = {
    "challenge_completed": _at_the_bank("complete"),
    "challenge_failed": _at_the_bank("fail"),
    "challenge_abandoned": _abandoned,
    "canceled_during_challenge": _commanded("cancel"),
    "sent_twice": _sent_twice,
    "same_key_other_body": _same_key_other_body,
    "quote_taken": _quote_taken,
    "quote_expired_before_payment": _quote_expired_before_payment,
    "quote_expired_requoted": _captured_after_the_lock(WIDE_SLIPPAGE),
    "quote_expired_rejected": _captured_after_the_lock(NO_SLIPPAGE),
    "manual_capture": _commanded("capture"),
    "partial_capture": _commanded("capture"),
    "canceled": _commanded("cancel"),
    "refund_full_early": _refunded(Share.ALL, late=False),
    "refund_part_early": _refunded(Share.PART, late=False),
    "refund_full_late": _refunded(Share.ALL, late=True),
    "refund_part_late": _refunded(Share.PART, late=True),
    "refunds_racing": _refunds_racing,
    "refund_timeout": _refunded(Share.ALL, late=False),
    "refund_pending": _refunded(Share.ALL, late=False),
    "refund_came_back": _refunded(Share.ALL, late=False),
    "review_approved": _reviewed("approve"),
    "review_declined": _reviewed("decline"),
    "never_sent": _reviewed("absent", "not in the provider's books"),
    "over_limit": _over_limit,
}
"""Every other scenario is the plain story; what is special there is the card."""


async def drive(market: Market, orders: Sequence[Order]) -> None:
    """Run every order's story to its end, the closing orders after all others; the provider settles meanwhile."""
    gate = asyncio.Semaphore(IN_FLIGHT)
    market.tales.extend(Tale(order) for order in orders)
    for is_closing in (False, True):
        async with asyncio.TaskGroup() as group:
            for tale in market.tales:
                if (tale.order.scenario == CLOSING) is is_closing:
                    group.create_task(_tell(Buying(market, tale, gate)))


async def _tell(buying: Buying) -> None:
    tale = buying.tale
    try:
        await STORIES.get(tale.order.scenario, _bought)(buying)
    except (Surprise, NoAnswer, httpx.HTTPError) as error:
        tale.surprise = str(error) or type(error).__name__
    finally:
        tale.is_answered = tale.is_over = True
