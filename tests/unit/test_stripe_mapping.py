"""Stripe's words to ours: every table entry, every contradiction, and nothing final without a table entry."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corridor.domain.effect import Operation
from corridor.domain.money import Money
from corridor.domain.outcome import DeclineCategory, Evidence, Outcome, ProviderAnswer
from corridor.providers.document import Document, parse
from corridor.providers.stripe.client import Reply
from corridor.providers.stripe.mapping import (
    DECLINE_CODES,
    STATUS_OUTCOMES,
    Expected,
    decline_of,
    evidence_of,
    judge_object,
    judge_reply,
)

NOW = datetime(2026, 10, 1, tzinfo=UTC)
SEEN = Evidence(seen_at=NOW)
KEYS = {
    Operation.AUTHORISE: "pay_1:authorise:1",
    Operation.SALE: "pay_1:sale:1",
    Operation.CAPTURE: "pay_1:capture:1",
    Operation.VOID: "pay_1:void:1",
    Operation.REFUND: "rfd_1:refund:1",
}


def expected(operation: Operation) -> Expected:
    units = None if operation is Operation.VOID else 1_000
    intent_id = "pi_1" if operation in (Operation.CAPTURE, Operation.VOID) else None
    return Expected(operation, KEYS[operation], units, "eur", intent_id)


def found(operation: Operation, **changes: Any) -> Document:
    """What Stripe shows when everything is as asked; `changes` make it otherwise."""
    refund = operation is Operation.REFUND
    value = {
        "id": "re_1" if refund else "pi_1",
        "object": "refund" if refund else "payment_intent",
        "status": "succeeded",
        "amount": 1_000,
        "amount_received": 1_000,
        "amount_capturable": 1_000,
        "currency": "eur",
        "metadata": {"corridor_effect": KEYS[operation]},
        "last_payment_error": {
            "type": "card_error",
            "code": "card_declined",
            "decline_code": "insufficient_funds",
        },
        "next_action": {
            "type": "redirect_to_url",
            "redirect_to_url": {"url": "https://hooks.stripe.com/3ds"},
        },
        **changes,
    }
    return Document(value)


def judged(operation: Operation, **changes: Any) -> ProviderAnswer:
    return judge_object(found(operation, **changes), expected(operation), SEEN)


def reply(status: int, body: Any) -> Reply:
    return Reply(status, parse(json.dumps(body).encode()), "req_1", None, False)


def card_error(code: str, decline_code: str | None = None, **more: Any) -> dict[str, Any]:
    return {"error": {"type": "card_error", "code": code, "decline_code": decline_code, **more}}


@pytest.mark.parametrize(
    ("operation", "status"),
    [(operation, status) for operation, row in STATUS_OUTCOMES.items() for status in row],
)
def test_status_table_is_what_is_answered(operation: Operation, status: str) -> None:
    assert judged(operation, status=status).outcome is STATUS_OUTCOMES[operation][status]


@pytest.mark.parametrize("operation", list(Operation))
def test_every_operation_is_approved_by_exactly_its_final_states(operation: Operation) -> None:
    approving = {
        status for status, outcome in STATUS_OUTCOMES[operation].items() if outcome is Outcome.APPROVED
    }
    assert (
        approving
        == {
            Operation.AUTHORISE: {"requires_capture", "succeeded"},
            Operation.SALE: {"succeeded"},
            Operation.CAPTURE: {"succeeded"},
            Operation.VOID: {"canceled"},
            Operation.REFUND: {"succeeded"},
        }[operation]
    )


@given(operation=st.sampled_from(Operation), status=st.none() | st.booleans() | st.integers() | st.text())
def test_unmapped_status_is_pending(operation: Operation, status: object) -> None:
    if not isinstance(status, str) or status not in STATUS_OUTCOMES[operation]:
        assert judged(operation, status=status).outcome is Outcome.PENDING


def test_approval_carries_what_the_provider_moved() -> None:
    answer = judged(Operation.SALE)
    assert (answer.amount, answer.provider_reference) == (Money(1_000, "EUR"), "pi_1")
    assert answer.authorization_expires_at is None
    assert judged(Operation.VOID, status="canceled").amount is None


def test_authorisation_expires_when_the_network_says() -> None:
    charge = {"id": "ch_1", "payment_method_details": {"card": {"capture_before": 1_760_000_000}}}
    answer = judged(Operation.AUTHORISE, status="requires_capture", latest_charge=charge)
    assert answer.authorization_expires_at == datetime.fromtimestamp(1_760_000_000, UTC)
    assert judged(Operation.AUTHORISE, status="requires_capture").authorization_expires_at is None


@pytest.mark.parametrize(
    ("operation", "status", "changes"),
    [
        (Operation.SALE, "succeeded", {"amount": 999}),
        (Operation.SALE, "succeeded", {"amount_received": 999}),
        (Operation.SALE, "succeeded", {"amount_received": Decimal("1000.0")}),
        (Operation.SALE, "succeeded", {"amount_received": True}),
        (Operation.SALE, "succeeded", {"currency": "usd"}),
        (Operation.SALE, "processing", {"amount": 999}),
        (Operation.AUTHORISE, "requires_capture", {"amount_capturable": 500}),
        (Operation.CAPTURE, "succeeded", {"amount_received": 500}),
        (Operation.REFUND, "succeeded", {"amount": 500}),
        (Operation.REFUND, "pending", {"amount": 500}),
    ],
)
def test_another_amount_or_currency_is_unknown_and_says_so(
    operation: Operation, status: str, changes: dict[str, Any]
) -> None:
    answer = judged(operation, status=status, **changes)
    assert (answer.outcome, answer.repeat_is_safe) == (Outcome.UNKNOWN, False)
    assert answer.evidence.note.startswith("amount_mismatch")
    assert answer.provider_reference is not None, "a person needs to find it"


def test_another_effects_object_is_unknown() -> None:
    for metadata in ({}, None, {"corridor_effect": "pay_2:sale:1"}, ["corridor_effect"]):
        answer = judged(Operation.SALE, metadata=metadata)
        assert (answer.outcome, answer.evidence.note) == (Outcome.UNKNOWN, "metadata_mismatch")
    assert judged(Operation.VOID, id="pi_2", status="canceled").evidence.note == "reference_mismatch"


@pytest.mark.parametrize(
    "changes", [{"object": "charge"}, {"object": None}, {"id": None}, {"id": 7}, {"id": ""}]
)
def test_another_kind_of_object_is_unknown(changes: dict[str, Any]) -> None:
    answer = judged(Operation.SALE, **changes)
    assert (answer.outcome, answer.repeat_is_safe) == (Outcome.UNKNOWN, True)


@pytest.mark.parametrize(
    "next_action",
    [
        None,
        {},
        {"type": "use_stripe_sdk"},
        {"redirect_to_url": {"url": "javascript:alert(1)"}},
        {"redirect_to_url": {"url": 1}},
    ],
)
def test_challenge_without_a_page_waits_as_pending(next_action: object) -> None:
    answer = judged(Operation.SALE, status="requires_action", next_action=next_action)
    assert (answer.outcome, answer.evidence.note) == (Outcome.PENDING, "next_action_unusable")


def test_failed_challenge_is_told_from_a_refused_card() -> None:
    failure = {"type": "invalid_request_error", "code": "payment_intent_authentication_failure"}
    answer = judged(Operation.SALE, status="requires_payment_method", last_payment_error=failure)
    assert answer.decline is not None
    assert answer.decline.category is DeclineCategory.AUTHENTICATION


def test_intent_that_never_was_tried_is_pending_and_not_declined() -> None:
    answer = judged(Operation.SALE, status="requires_payment_method", last_payment_error=None)
    assert answer.outcome is Outcome.PENDING


def test_charge_blocked_by_risk_rules_is_fraud_whatever_the_code() -> None:
    charge = {"id": "ch_1", "outcome": {"type": "blocked"}}
    answer = judged(Operation.SALE, status="requires_payment_method", latest_charge=charge)
    assert answer.decline is not None
    assert answer.decline.category is DeclineCategory.FRAUD


@pytest.mark.parametrize(
    ("operation", "changes", "reason"),
    [
        (
            Operation.CAPTURE,
            {"status": "canceled", "cancellation_reason": "automatic"},
            "authorization_expired",
        ),
        (
            Operation.CAPTURE,
            {"status": "canceled", "cancellation_reason": "expired"},
            "authorization_expired",
        ),
        (Operation.CAPTURE, {"status": "canceled", "cancellation_reason": "duplicate"}, "canceled"),
        (Operation.VOID, {"status": "succeeded"}, "already_captured"),
        (
            Operation.REFUND,
            {"status": "failed", "failure_reason": "lost_or_stolen_card"},
            "lost_or_stolen_card",
        ),
        (Operation.REFUND, {"status": "canceled"}, "canceled"),
    ],
)
def test_states_that_rule_the_operation_out_decline_it(
    operation: Operation, changes: dict[str, Any], reason: str
) -> None:
    answer = judged(operation, **changes)
    assert answer.decline is not None
    assert (answer.decline.reason, answer.decline.category) == (reason, DeclineCategory.HARD)


@pytest.mark.parametrize(("code", "category"), sorted(DECLINE_CODES.items()))
def test_every_decline_code_has_its_class(code: str, category: DeclineCategory) -> None:
    answer = judge_reply(reply(402, card_error("card_declined", code)), expected(Operation.SALE), SEEN)
    assert answer.outcome is Outcome.DECLINED
    assert answer.decline is not None
    assert (answer.decline.category, answer.decline.reason) == (category, code)


@pytest.mark.parametrize(
    ("decline_code", "advice_code", "category"),
    [
        ("do_not_honor", "try_again_later", DeclineCategory.SOFT),
        ("insufficient_funds", "do_not_try_again", DeclineCategory.HARD),
        ("processing_error", "confirm_card_data", DeclineCategory.HARD),
        ("stolen_card", "try_again_later", DeclineCategory.FRAUD),
        ("insufficient_funds", "advice_of_tomorrow", DeclineCategory.SOFT),
        ("code_of_tomorrow", None, DeclineCategory.HARD),
    ],
)
def test_advice_overrides_the_code_but_never_fraud(
    decline_code: str, advice_code: str | None, category: DeclineCategory
) -> None:
    error = card_error("card_declined", decline_code, advice_code=advice_code)["error"]
    assert decline_of(Document(error)).category is category


@pytest.mark.parametrize(
    ("status", "body", "outcome", "repeat_is_safe", "retry_after"),
    [
        (500, {"error": {"type": "api_error"}}, Outcome.UNKNOWN, True, None),
        (502, "<html>", Outcome.UNKNOWN, True, None),
        (503, {"error": {"type": "card_error"}}, Outcome.UNKNOWN, True, None),
        (
            429,
            {"error": {"type": "invalid_request_error", "code": "lock_timeout"}},
            Outcome.NOT_SENT,
            True,
            2,
        ),
        (429, "slow down", Outcome.UNKNOWN, True, None),
        (409, {"error": {"code": "idempotency_key_in_use"}}, Outcome.UNKNOWN, True, 1),
        (400, {"error": {"type": "idempotency_error"}}, Outcome.UNKNOWN, False, None),
        (400, {"error": {"type": "type_of_tomorrow"}}, Outcome.UNKNOWN, False, None),
        (401, {"error": {"type": "invalid_request_error"}}, Outcome.NOT_SENT, True, None),
        (403, {"error": {"type": "invalid_request_error"}}, Outcome.NOT_SENT, True, None),
        (403, "<html>", Outcome.UNKNOWN, True, None),
        (402, {"error": {"type": "api_error"}}, Outcome.UNKNOWN, False, None),
        (402, {}, Outcome.UNKNOWN, True, None),
        (302, {"error": {"type": "card_error"}}, Outcome.UNKNOWN, False, None),
        (418, {"error": {"type": "card_error"}}, Outcome.UNKNOWN, False, None),
        (200, {}, Outcome.UNKNOWN, True, None),
        (200, [1], Outcome.UNKNOWN, True, None),
        (200, {"error": {"type": "card_error", "code": "card_declined"}}, Outcome.UNKNOWN, True, None),
    ],
)
def test_http_answers_that_prove_nothing(
    status: int, body: object, outcome: Outcome, repeat_is_safe: bool, retry_after: int | None
) -> None:
    answer = judge_reply(reply(status, body), expected(Operation.SALE), SEEN)
    assert (answer.outcome, answer.repeat_is_safe) == (outcome, repeat_is_safe)
    assert answer.retry_after_seconds == retry_after


def test_only_a_server_error_from_memory_ends_the_repeats() -> None:
    kept = Reply(500, None, "req_1", None, replayed=True)
    answer = judge_reply(kept, expected(Operation.SALE), evidence_of(kept, NOW))
    assert (answer.outcome, answer.repeat_is_safe, answer.evidence.replayed) == (Outcome.UNKNOWN, False, True)


@pytest.mark.parametrize(
    ("code", "category"),
    [
        ("parameter_unknown", DeclineCategory.TECHNICAL),
        ("resource_missing", DeclineCategory.TECHNICAL),
        ("charge_expired_for_capture", DeclineCategory.HARD),
        ("charge_disputed", DeclineCategory.HARD),
        ("balance_insufficient", DeclineCategory.SOFT),
        ("code_of_tomorrow", DeclineCategory.TECHNICAL),
    ],
)
def test_refused_requests_are_declined_by_what_they_mean(code: str, category: DeclineCategory) -> None:
    body = {"error": {"type": "invalid_request_error", "code": code}}
    answer = judge_reply(reply(400, body), expected(Operation.CAPTURE), SEEN)
    assert answer.decline is not None
    assert answer.decline.category is category


@pytest.mark.parametrize("status", ["succeeded", "requires_capture", "processing", "state_of_tomorrow"])
def test_card_error_about_an_intent_that_stands_otherwise_is_pending(status: str) -> None:
    body = card_error("card_declined", payment_intent=dict(found(Operation.SALE, status=status)._value))
    answer = judge_reply(reply(402, body), expected(Operation.SALE), SEEN)
    assert (answer.outcome, answer.provider_reference) == (Outcome.PENDING, "pi_1")


def test_card_error_about_another_effect_is_unknown() -> None:
    other = dict(found(Operation.SALE, status="requires_payment_method", metadata={})._value)
    answer = judge_reply(
        reply(402, card_error("card_declined", payment_intent=other)), expected(Operation.SALE), SEEN
    )
    assert (answer.outcome, answer.repeat_is_safe) == (Outcome.UNKNOWN, False)


def test_evidence_holds_codes_and_no_prose() -> None:
    message = "Jane Doe's card 4242 4242 4242 4242 was declined"
    body = card_error("card_declined", "do_not_honor", message=message, param="Jane Doe", charge="ch_1")
    evidence = evidence_of(reply(402, body), NOW)
    answer = judge_reply(reply(402, body), expected(Operation.SALE), evidence)
    assert (evidence.http_status, evidence.request_id, evidence.note) == (402, "req_1", "card_declined")
    assert "Jane" not in answer.model_dump_json()
    assert "4242" not in answer.model_dump_json()


WORDS = st.sampled_from(
    ["payment_intent", "refund", "succeeded", "canceled", "requires_action", "card_error", "pi_1", "eur",
     "invalid_request_error", "insufficient_funds", "pay_1:sale:1", "requires_payment_method", "idempotency_error"]
)  # fmt: skip
FIELDS = st.sampled_from(
    ["id", "object", "status", "amount", "amount_received", "amount_capturable", "currency", "metadata", "error",
     "type", "code", "decline_code", "advice_code", "payment_intent", "last_payment_error", "next_action",
     "redirect_to_url", "url", "latest_charge", "outcome", "corridor_effect", "cancellation_reason",
     "payment_method_details", "card", "capture_before", "failure_reason"]
)  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | WORDS
    | st.just(1_000)
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS | st.text(), inner, max_size=8)
)
FINAL = (Outcome.APPROVED, Outcome.DECLINED)


@given(
    operation=st.sampled_from(Operation),
    status=st.sampled_from([200, 201, 400, 401, 402, 404, 409, 429, 500]),
    body=JSON,
)
def test_no_json_makes_judging_raise_or_conclude_without_a_table_entry(
    operation: Operation, status: int, body: object
) -> None:
    answered = reply(status, body)
    answer = judge_reply(answered, expected(operation), evidence_of(answered, NOW))
    if status < 300 and answer.outcome in FINAL:
        assert isinstance(body, dict)
        assert STATUS_OUTCOMES[operation][body["status"]] is answer.outcome


@given(
    operation=st.sampled_from(Operation),
    changes=st.dictionaries(FIELDS, JSON, max_size=6),
    status=st.sampled_from(["succeeded", "canceled", "requires_action", "failed", "pending"]) | st.text(),
)
def test_damaged_answers_are_never_approved_for_another_amount(
    operation: Operation, changes: dict[str, Any], status: str
) -> None:
    answer = judged(operation, **{"status": status, **changes})
    if answer.outcome in FINAL:
        assert STATUS_OUTCOMES[operation][answer.evidence.provider_status or ""] is answer.outcome
    if answer.outcome is Outcome.APPROVED and operation is not Operation.VOID:
        assert answer.amount == Money(1_000, "EUR")


@given(st.binary())
def test_parsing_any_bytes_answers_an_object_or_none(body: bytes) -> None:
    assert parse(body) is None or isinstance(parse(body), Document)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"1",
        b'{"a":NaN}',
        b'{"a":1e99999999999999999999}',
        b"[" * 100_000,
        b'{"a":' + b"9" * 5_000 + b"}",
    ],
)
def test_hostile_json_reads_as_none(body: bytes) -> None:
    assert parse(body) is None


def test_fractions_are_decimals_of_their_own_text() -> None:
    document = parse(b'{"exchange_rate": 1.2340, "amount": 12.0, "whole": 7}')
    assert document is not None
    assert str(document.decimal("exchange_rate")) == "1.2340"
    assert document.integer("amount") is None
    assert document.decimal("whole") == Decimal(7)
