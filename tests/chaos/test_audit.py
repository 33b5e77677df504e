"""What the audit hands to the proofs: commands with all their answers, and whose workflows were broken off."""

import json
from datetime import UTC, datetime
from pathlib import Path

from api.cli.audit.evidence import Kept, Ordered, Returned
from api.cli.demo.shop import Answer, Sent, Shop
from corridor.domain.money import Money
from tests.chaos.audit import broken_off, genuine, ordered
from tests.chaos.faults import webhooks
from tests.chaos.journal import Journal
from tests.chaos.plan import Act, Kind


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


def test_only_what_the_provider_itself_sent_is_asked_about() -> None:
    forged = webhooks._content("altered_amount", "7", "pay_1")["id"]
    at = datetime(2026, 11, 20, tzinfo=UTC)
    inbox = [Kept(name, "contradicted", 1, at) for name in (forged, "evt_1")]
    assert [it.event_id for it in genuine(inbox)] == ["evt_1"]
