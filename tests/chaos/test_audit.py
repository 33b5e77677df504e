"""What the audit hands to the proofs: commands with all their answers, and whose workflows were broken off."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from api.cli.audit.evidence import Kept, Ordered, Returned
from api.cli.demo.shop import Answer, Sent, Shop
from api.cli.drill.disasters import Recovered
from corridor.domain.money import Money
from tests.chaos.arrivals import Arrival, Story
from tests.chaos.audit import broken_off, genuine, nobody_was_surprised, nothing_moves, ordered, recovered
from tests.chaos.faults import webhooks
from tests.chaos.journal import Journal
from tests.chaos.liveness import Moving, Recovery
from tests.chaos.plan import Act, Kind
from tests.chaos.shopping import Order, Street, tell
from tests.chaos.watch import WentBack

MINUTE = timedelta(minutes=1)


def answer(status: int, captured_minor: int = 0) -> Answer:
    body = {"amount_captured": {"minor": captured_minor, "currency": "EUR", "exponent": 2}}
    return Answer(status, json.dumps(body).encode(), 0.1, 1)


def test_captures_and_cancels_are_told_with_all_their_answers_and_nothing_else_is() -> None:
    shop = Shop("porto-leather", None, "cor_test")  # type: ignore[arg-type] — nothing is sent here
    for path, key, answers in (
        ("/v1/payments", "order-1", [answer(201)]),
        ("/v1/payments/pay_1:capture", "order-1-capture", [answer(202), answer(200, 600), answer(200, 600)]),
        ("/v1/payments/pay_1:cancel", "order-1-cancel", [answer(409)]),
        ("/v1/payments/pay_2:cancel", "order-2-cancel", []),
    ):
        shop.sent[key] = Sent(shop, path, b"{}", key, answers)
    assert ordered([shop]) == [
        Ordered("pay_1", "capture", "order-1-capture", frozenset({200, 202}), Money(600, "EUR")),
        Ordered("pay_1", "cancel", "order-1-cancel", frozenset({409}), None),
        Ordered("pay_2", "cancel", "order-2-cancel", frozenset(), None),
    ]


def test_whoever_was_terminated_or_reset_is_known_and_a_refunds_payment_with_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    for kind, fired, note in (
        (Kind.TERMINATE, True, "payment-pay_1 run-1; resumed pay_1"),
        (Kind.RESET, True, "refund-rfd_2 run-2"),
        (Kind.TERMINATE, False, "no such workflow was running"),
        (Kind.KILL, True, "pid 7"),
    ):
        journal.act(Act(1.0, kind, "payment-moving", {}), fired, note)
    journal.close()
    amount = Money(100, "EUR")
    refunds = [Returned(f"rfd_{n}", f"pay_{n}", "succeeded", 2, amount, is_reported=True) for n in (2, 3)]
    assert broken_off(journal, refunds) == {"pay_1", "rfd_2", "pay_2"}


NOTHING = Moving(payments={}, refunds=0, webhooks=0, scheduled=3, payouts=0, provider_webhooks=0)


def test_a_wait_that_ended_because_nothing_moved_holds() -> None:
    proof = nothing_moves(Recovery({}, left=NOTHING, looks=9))
    assert proof.holds
    assert proof.looked_at == "9 looks"


def test_a_wait_that_ended_because_nothing_changed_any_more_is_told_by_what_was_left() -> None:
    stuck = replace(
        NOTHING, payments={"pay_1": "captured"}, refunds=2, webhooks=3, payouts=4, provider_webhooks=5
    )
    proof = nothing_moves(Recovery({}, left=stuck, looks=9))
    assert [it.partition(" ")[0] for it in proof.counterexamples] == ["pay_1", "2", "3", "4", "5"]
    assert not nothing_moves(Recovery({}, looks=9)).holds, "nobody waited"


def test_recovery_is_held_to_its_time_of_those_that_waited_for_us() -> None:
    then = {"pay_open": "processing", "pay_taken": "captured"}
    found = Recovery(then, left=NOTHING)
    found.note({"pay_taken": "captured"}, 12.0)
    assert recovered(found, 30.0).looked_at == "1 payments that did or could"
    assert recovered(found, 30.0).holds
    assert not recovered(found, 10.0).holds
    found.left = replace(NOTHING, payments={"pay_taken": "captured"})
    assert recovered(found, 30.0).counterexamples == ("pay_taken was still captured at the end",)


def test_a_recovery_in_which_nobody_waited_for_us_proves_nothing_where_it_is_held_to_a_time() -> None:
    found = Recovery({"pay_taken": "captured"}, left=NOTHING)
    found.note({}, 40.0)
    assert not recovered(found, 30.0).holds
    assert recovered(found, None).holds
    found.owe(["pay_taken"])
    assert recovered(found, 30.0).counterexamples == ("pay_taken took 40.0 s",)


def test_the_last_of_a_kind_of_fault_is_the_one_that_was_over_last(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.jsonl")
    assert journal.last_of(Kind.CLOCK_SKEW) is None
    for kind in (Kind.CLOCK_SKEW, Kind.CLOCK_SKEW, Kind.KILL):
        journal.act(Act(0.0, kind, "api", {}), fired=False)
    journal.close()
    assert journal.last_of(Kind.CLOCK_SKEW) == journal.entries[1].at_seconds


def test_only_what_the_provider_itself_sent_is_asked_about() -> None:
    forged = webhooks.content("altered_amount", "7", webhooks.somebody("pay_1"))["id"]
    at = datetime(2026, 11, 20, tzinfo=UTC)
    inbox = [Kept(name, "contradicted", 1, at) for name in (forged, "evt_1")]
    assert [it.event_id for it in genuine(inbox)] == ["evt_1"]


def bought_at_a_quote_that_was_gone(given_at: datetime) -> Street:
    arrival = Arrival(1.0, "order-1", "porto-leather", "DE", Money(100, "USD"), "pm_card_visa", Story.QUOTED)
    return Street({}, cast(httpx.AsyncClient, None), [Order(arrival, "pay_1", quote_gone=given_at)])


def test_a_quote_may_be_gone_with_the_database_it_was_given_in_and_only_so() -> None:
    copied_at = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    struck_at, released_at = copied_at + MINUTE, copied_at + 2 * MINUTE
    back = WentBack(copied_at, struck_at, released_at, 60.0, Recovered())
    lost = nobody_was_surprised(bought_at_a_quote_that_was_gone(copied_at + MINUTE / 2), [back])
    assert lost.holds
    assert lost.notes == ("order-1: the quote given at 12:00:30 was not there any more",)
    assert not nobody_was_surprised(bought_at_a_quote_that_was_gone(copied_at - MINUTE), [back]).holds
    assert not nobody_was_surprised(bought_at_a_quote_that_was_gone(copied_at), []).holds


class Selling:
    """An API that knows the quotes it gave, until it forgets them."""

    name = "porto-leather"

    def __init__(self, *, forgets: bool) -> None:
        self.forgets, self.keys = forgets, list[str]()

    async def post(self, path: str, body: dict[str, Any], key: str) -> Answer:
        self.keys.append(key)
        if path == "/v1/payments" and body.get("quote") == "order-1-quote" and self.forgets:
            return Answer(404, b'{"code": "not_found"}', 0.1, 1)
        return Answer(201, json.dumps({"id": "pay_1" if path == "/v1/payments" else key}).encode(), 0.1, 1)


@pytest.mark.parametrize("forgets", [False, True])
async def test_a_shop_whose_quote_is_gone_asks_for_a_new_one(forgets: bool) -> None:
    selling = Selling(forgets=forgets)
    arrival = Arrival(1.0, "order-1", "porto-leather", "DE", Money(100, "USD"), "pm_card_visa", Story.QUOTED)
    street = Street({"porto-leather": cast(Shop, selling)}, cast(httpx.AsyncClient, None))
    street.expect(arrival)
    order = await tell(street, arrival)
    again = ["order-1-quote-again", "order-1-again"] if forgets else []
    assert selling.keys == ["order-1-quote", "order-1", *again]
    assert (order.payment_id, order.surprise, order.quote_gone is not None) == ("pay_1", None, forgets)
