"""Stripe's webhooks: the signature over the raw bytes, then the few words that route the event.

Source: https://docs.stripe.com/webhooks#verify-manually.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import SecretStr

from corridor.domain.effect import Operation
from corridor.providers.document import Document, parse
from corridor.providers.port import ProviderEvent, SignatureInvalid

SIGNATURE_HEADER = "stripe-signature"
TOLERANCE_SECONDS = 300
MAXIMUM_SIGNATURES = 16
MAXIMUM_HEADER_LENGTH = 4096

_OUR_KEY = re.compile(rf"[a-z]{{3}}_[0-9a-z]+:({'|'.join(Operation)}):[1-9][0-9]*")


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[SecretStr], now: datetime) -> None:
    """Raise `SignatureInvalid` unless one `v1` signature matches one of the secrets and is not old.

    Two secrets are in force for up to 24 hours while one is rolled. A time stamp ahead of ours passes, as in
    Stripe's own clients: who can sign it needs no replay, and a slow clock of ours must not lose events.
    """
    timestamp, signatures = _signature_parts(headers)
    signed = f"{timestamp}.".encode() + body
    matches = [
        hmac.compare_digest(
            hmac.new(secret.get_secret_value().encode(), signed, hashlib.sha256).digest(), signature
        )
        for secret in secrets
        for signature in signatures
    ]
    if not any(matches):
        raise SignatureInvalid("no signature matches")
    if now.timestamp() - timestamp > TOLERANCE_SECONDS:
        raise SignatureInvalid("the signature is too old")


def reduce_event(body: bytes) -> ProviderEvent:
    """The routing words of a verified event. Raises `SignatureInvalid` when the signed bytes are no event."""
    event = parse(body) or Document({})
    event_id, kind, created_at = event.word("id"), event.word("type"), event.instant("created")
    if event.word("object") != "event" or event_id is None or kind is None or created_at is None:
        raise SignatureInvalid("the signed bytes are not an event")
    concerned = event.section("data").section("object")
    metadata = concerned.section("metadata")
    return ProviderEvent(
        provider_event_id=event_id,
        type=kind,
        created_at=created_at,
        payment_id=metadata.word("corridor_payment"),
        effect_key=_key_of_cause(event) or metadata.word("corridor_effect"),
        provider_reference=_reference(concerned),
        is_setback=_is_failed_refund(concerned),
        shows_money=_shows_money(concerned),
    )


_WITH_MONEY = {"payment_intent": ("requires_capture", "succeeded"), "refund": ("pending", "succeeded")}
"""Statuses of an object whose money is held or moved. `processing` may still end in a decline, and its end has an event
of its own; charges say no more than their intents, and one that was let go still reads `succeeded`."""


def _shows_money(concerned: Document) -> bool:
    return concerned.word("status") in _WITH_MONEY.get(concerned.word("object") or "", ())


def _is_failed_refund(concerned: Document) -> bool:
    """https://docs.stripe.com/refunds#failed-refunds: it may fail days after it succeeded."""
    return concerned.word("object") == "refund" and concerned.word("status") in ("failed", "canceled")


def _key_of_cause(event: Document) -> str | None:
    """The effect key of the call that caused the event, echoed as `request.idempotency_key`.

    It is exacter than the object's metadata: a capture's event shows the intent, whose metadata names the
    authorisation.
    """
    key = event.section("request").word("idempotency_key") or ""
    return key if _OUR_KEY.fullmatch(key) else None


def _reference(concerned: Document) -> str | None:
    """Charges and disputes are known to us by their intent, everything else by its own id."""
    if concerned.word("object") in ("charge", "dispute"):
        return concerned.word("payment_intent") or concerned.word("id")
    return concerned.word("id")


def _signature_parts(headers: Mapping[str, str]) -> tuple[int, list[bytes]]:
    """The time stamp and the `v1` signatures; other schemes are ignored. Raises `SignatureInvalid`."""
    header = next((value for name, value in headers.items() if name.lower() == SIGNATURE_HEADER), "")
    if len(header) > MAXIMUM_HEADER_LENGTH:
        raise SignatureInvalid("the signature header is too long")
    pairs = [part.strip().partition("=")[::2] for part in header.split(",")]
    times = [value for name, value in pairs if name == "t"]
    signatures = [_digest(value) for name, value in pairs if name == "v1"][:MAXIMUM_SIGNATURES]
    if len(times) != 1 or not re.fullmatch(r"[0-9]{1,12}", times[0]) or not signatures:
        raise SignatureInvalid("the signature header is missing or malformed")
    return int(times[0]), signatures


def _digest(text: str) -> bytes:
    """Lower-case hex of a SHA-256; anything else can match no signature."""
    return bytes.fromhex(text) if re.fullmatch(r"[0-9a-f]{64}", text) else b""
