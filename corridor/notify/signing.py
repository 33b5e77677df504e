"""Signatures of outgoing webhooks: Standard Webhooks 1.0.0, scheme `v1` (https://www.standardwebhooks.com)."""

import base64
import secrets
from collections.abc import Sequence
from datetime import datetime

from standardwebhooks import Webhook

SECRET_PREFIX = "whsec_"  # noqa: S105 - the public prefix of every secret, not one of them
SECRET_BYTES = 32


def new_secret() -> str:
    """`whsec_` and 32 random bytes in base64; shown to the merchant once."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def headers(
    signing_secrets: Sequence[str], message_id: str, sent_at: datetime, body: bytes
) -> dict[str, str]:
    """The three headers of one attempt. While a secret is rotated both sign, and the receiver may check either.

    `message_id` is the event's id and stays the same over all attempts; `sent_at` is this attempt's time.
    """
    text = body.decode("utf-8")
    signatures = [Webhook(secret).sign(message_id, sent_at, text) for secret in signing_secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
