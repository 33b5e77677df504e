"""What the audit hands to the proofs: commands as shops sent them, with all their answers."""

import json

from api.cli.audit.evidence import Ordered
from api.cli.demo.shop import Answer, Sent, Shop
from corridor.domain.money import Money
from tests.chaos.audit import ordered


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
