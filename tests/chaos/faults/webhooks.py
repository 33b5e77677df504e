"""Webhooks that the provider never sent (F9): wrong signatures, old times, strangers, and signed lies.

A signed lie is the hardest: the signature is right, the content is not. Nothing may follow from it but a look-up.
"""

import hashlib
import hmac
import json
import time
from typing import Any

import httpx

FORGERIES = (
    "no_signature", "wrong_secret", "old_timestamp", "reserialised", "unknown_payment", "altered_amount",
    "late_pending", "false_failure", "sent_again",
)  # fmt: skip
_REFUSED = ("no_signature", "wrong_secret", "old_timestamp", "reserialised")
PATH = "/v1/provider_webhooks/stripe"

Json = dict[str, Any]


def _event(kind: str, number: str, payment_id: str, status: str, amount: int) -> Json:
    intent = {
        "id": f"pi_forged_{number}",
        "object": "payment_intent",
        "amount": amount,
        "amount_received": amount,
        "currency": "eur",
        "status": status,
        "metadata": {"corridor_payment": payment_id, "corridor_effect": f"{payment_id}:sale:1"},
    }
    return {
        "id": f"evt_forged_{number}",
        "object": "event",
        "type": kind,
        "created": int(time.time()),
        "data": {"object": intent},
        "request": {"id": None, "idempotency_key": f"{payment_id}:sale:1"},
    }


def _content(name: str, number: str, payment_id: str) -> Json:
    if name == "unknown_payment":
        return _event("payment_intent.succeeded", number, "pay_01unknown", "succeeded", 4_200)
    if name == "late_pending":
        return _event("payment_intent.processing", number, payment_id, "processing", 1)
    if name == "false_failure":
        return _event("payment_intent.payment_failed", number, payment_id, "requires_payment_method", 1)
    return _event("payment_intent.succeeded", number, payment_id, "succeeded", 1)


def _headers(name: str, body: bytes, secret: str) -> dict[str, str]:
    at = int(time.time()) - (3_600 if name == "old_timestamp" else 0)
    key = "whsec_somebody_else" if name == "wrong_secret" else secret
    signed = hmac.new(key.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return {} if name == "no_signature" else {"Stripe-Signature": f"t={at},v1={signed}"}


async def send(
    http: httpx.AsyncClient, secret: str, name: str, number: str, payment_id: str
) -> tuple[bool, str | None]:
    """Deliver one forgery: (the API judged it, what is wrong with the judgement)."""
    body = json.dumps(_content(name, number, payment_id)).encode()
    headers = _headers(name, body, secret)
    if name == "reserialised":
        body = json.dumps(json.loads(body), separators=(",", ":")).encode()
    wanted = 401 if name in _REFUSED else 200
    for _ in range(2 if name == "sent_again" else 1):
        try:
            answer = await http.post(
                PATH, content=body, headers={**headers, "Content-Type": "application/json"}
            )
        except httpx.TransportError:
            return False, None
        if answer.status_code in (429, 503) or not answer.headers.get("content-type", "").endswith("json"):
            return False, None
        if answer.status_code != wanted:
            return True, f"forged webhook {name} was answered {answer.status_code}, not {wanted}"
    return True, None
