"""Stripe's webhook signature and the words an event is reduced to."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from corridor.providers.port import SignatureInvalid
from corridor.providers.stripe.webhooks import reduce_event, verify

SECRET = SecretStr("whsec_corridor_test")
NOW = datetime.fromtimestamp(1_700_000_010, UTC)
VECTOR_BODY = b'{"id":"evt_1","object":"event"}'
VECTOR = "371129bad1b1426854141f48673c3d28e9d9c549e0c0449fab9b64ecf7beb69e"


def event(concerned: dict[str, Any], **changes: Any) -> bytes:
    base = {"id": "evt_1", "object": "event", "type": "charge.captured", "created": 1_700_000_000}
    return json.dumps({**base, "data": {"object": concerned}, **changes}).encode()


def test_published_vector_verifies() -> None:
    verify({"Stripe-Signature": f"t=1700000000,v1={VECTOR}"}, VECTOR_BODY, [SECRET], NOW)


@pytest.mark.parametrize(
    "header",
    [
        f"t=1700000000,v1={'0' * 64},v1={VECTOR}",
        f"t=1700000000,v0=ignored,v1={VECTOR},v2=later",
        f" t=1700000000 , v1={VECTOR} ",
    ],
)
def test_any_matching_v1_passes(header: str) -> None:
    verify({"stripe-signature": header}, VECTOR_BODY, [SecretStr("whsec_old"), SECRET], NOW)


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (f"t=1700000000,v1={VECTOR}", VECTOR_BODY + b"\n"),
        (f"t=1700000001,v1={VECTOR}", VECTOR_BODY),
        (f"t=1700000000,v0={VECTOR}", VECTOR_BODY),
        (f"t=1700000000,v1={VECTOR.upper()}", VECTOR_BODY),
        (f"t=1700000000,t=1700000000,v1={VECTOR}", VECTOR_BODY),
        (f"v1={VECTOR}", VECTOR_BODY),
        (f"t=-1,v1={VECTOR}", VECTOR_BODY),
        ("t=1700000000,v1=", VECTOR_BODY),
        ("t=1700000000," + ",".join(f"v1={VECTOR}" for _ in range(100)), VECTOR_BODY),
        ("", VECTOR_BODY),
    ],
)
def test_anything_else_is_refused(header: str, body: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        verify({"Stripe-Signature": header}, body, [SECRET], NOW)


def test_missing_header_and_foreign_secret_are_refused() -> None:
    for headers, secrets in (({}, [SECRET]), ({"Stripe-Signature": f"t=1700000000,v1={VECTOR}"}, [])):
        with pytest.raises(SignatureInvalid):
            verify(headers, VECTOR_BODY, secrets, NOW)


def test_signature_is_good_for_five_minutes() -> None:
    headers = {"Stripe-Signature": f"t=1700000000,v1={VECTOR}"}
    verify(headers, VECTOR_BODY, [SECRET], datetime.fromtimestamp(1_700_000_300, UTC))
    with pytest.raises(SignatureInvalid, match="old"):
        verify(headers, VECTOR_BODY, [SECRET], datetime.fromtimestamp(1_700_000_301, UTC))


@given(header=st.text(), body=st.binary())
def test_no_header_or_body_does_more_than_being_refused(header: str, body: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        verify({"Stripe-Signature": header}, body, [SECRET], NOW)
    try:
        reduce_event(body)
    except SignatureInvalid:
        return


def test_effect_key_is_that_of_the_call_which_caused_the_event() -> None:
    metadata = {"corridor_payment": "pay_1", "corridor_effect": "pay_1:authorise:1"}
    charge = {"id": "ch_1", "object": "charge", "payment_intent": "pi_1", "metadata": metadata}
    caused = reduce_event(event(charge, request={"id": "req_1", "idempotency_key": "pay_1:capture:1"}))
    assert (caused.payment_id, caused.effect_key, caused.provider_reference) == (
        "pay_1",
        "pay_1:capture:1",
        "pi_1",
    )
    for request in (None, {"idempotency_key": "dashboard-4711"}):
        assert reduce_event(event(charge, request=request)).effect_key == "pay_1:authorise:1"


def test_refund_event_carries_the_refunds_own_effect_and_id() -> None:
    metadata = {"corridor_payment": "pay_1", "corridor_effect": "rfd_1:refund:1"}
    reduced = reduce_event(
        event({"id": "re_1", "object": "refund", "payment_intent": "pi_1", "metadata": metadata})
    )
    assert (reduced.payment_id, reduced.effect_key) == ("pay_1", "rfd_1:refund:1")
    assert reduced.provider_reference == "re_1"


@pytest.mark.parametrize(
    ("what", "status", "shows_money"),
    [
        ("payment_intent", "succeeded", True),
        ("payment_intent", "requires_capture", True),
        ("payment_intent", "processing", False),
        ("payment_intent", "requires_payment_method", False),
        ("payment_intent", "canceled", False),
        ("refund", "succeeded", True),
        ("refund", "pending", True),
        ("refund", "failed", False),
        ("charge", "succeeded", False),
    ],
)
def test_an_event_shows_money_that_is_held_or_moved_for_good(
    what: str, status: str, shows_money: bool
) -> None:
    concerned = {"id": "it_1", "object": what, "status": status}
    assert reduce_event(event(concerned)).shows_money is shows_money


def test_event_about_nothing_of_ours_routes_nowhere() -> None:
    reduced = reduce_event(event({"id": "po_1", "object": "payout"}))
    assert (reduced.payment_id, reduced.effect_key, reduced.provider_reference) == (None, None, "po_1")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", VECTOR_BODY, b'{"object":"event","id":"evt_1","type":"x"}']
)
def test_signed_bytes_that_are_no_event_are_refused(body: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        reduce_event(body)
