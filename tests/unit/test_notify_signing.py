"""Outgoing signatures are those any Standard Webhooks library checks."""

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from corridor.notify import signing

SECRET = "whsec_Y29ycmlkb3ItZG9jLXZlY3Rvci1zZWNyZXQtMzJieSE="
BODY = b'{"type":"payment.settled","timestamp":"2026-11-22T08:00:00Z","data":{"id":"pay_1"}}'


def test_the_published_vector_is_reproduced() -> None:
    sent_at = datetime.fromtimestamp(1795334400, UTC)
    assert signing.headers([SECRET], "evt_1", sent_at, BODY) == {
        "webhook-id": "evt_1",
        "webhook-timestamp": "1795334400",
        "webhook-signature": "v1,33wLqvSF6kTIm8ogU00lYwjgOVP9WE5nfJ5o2odM5Bg=",
    }


def test_both_secrets_of_a_rotation_verify_and_a_third_does_not() -> None:
    old, new, other = signing.new_secret(), signing.new_secret(), signing.new_secret()
    headers = signing.headers([new, old], "evt_1", datetime.now(UTC), BODY)
    for secret in (old, new):
        assert Webhook(secret).verify(BODY, headers)["type"] == "payment.settled"
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(BODY, headers)


def test_non_ascii_bodies_are_signed_as_the_bytes_that_are_sent() -> None:
    secret, body = signing.new_secret(), '{"name":"Müller 商店"}'.encode()
    headers = signing.headers([secret], "evt_1", datetime.now(UTC), body)
    assert Webhook(secret).verify(body, headers) == {"name": "Müller 商店"}


def test_a_new_secret_has_256_bits_and_is_never_the_same() -> None:
    secrets = {signing.new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(len(base64.b64decode(secret.removeprefix("whsec_"))) == 32 for secret in secrets)
