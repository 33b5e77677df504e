"""Webhooks that the provider never sent (F9): wrong signatures, old times, strangers, and signed lies.

A signed lie is the hardest: the signature is right, the content is not. Nothing may follow from it but a look-up. Every
second one is told of a payment that is under way, by the provider's own name for it and with its true amount: who
believed bodies would act on that, and the books of both sides would differ.
"""

import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from typing import Any

import httpx
from sqlalchemy import Connection, select

from corridor.domain.effect import Operation
from corridor.domain.payment import Status
from corridor.storage.database import Database
from corridor.storage.tables import effects, payments

FORGERIES = (
    "no_signature", "wrong_secret", "old_timestamp", "reserialised", "unknown_payment", "altered_amount",
    "late_pending", "false_failure", "sent_again",
)  # fmt: skip
SIGNED_LIES = ("altered_amount", "late_pending", "false_failure", "sent_again")
_REFUSED = ("no_signature", "wrong_secret", "old_timestamp", "reserialised")
AMONG = 50
PATH = "/v1/provider_webhooks/stripe"

Json = dict[str, Any]


@dataclass(frozen=True)
class Victim:
    """The payment that is lied about, and what the liar knows of it. `intent_id`: the provider's name, if it has one."""

    payment_id: str
    effect_key: str
    intent_id: str | None = None
    amount: int = 4_200
    currency: str = "eur"


def somebody(payment_id: str) -> Victim:
    """A payment of which nothing is known but its id."""
    return Victim(payment_id, f"{payment_id}:sale:1")


async def under_way(database: Database, number: int) -> Victim | None:
    """One of those that the provider knows and whose end is open; None while there is none."""
    found = await database.read(_under_way)
    return found[number % len(found)] if found else None


def _under_way(connection: Connection) -> list[Victim]:
    is_open = payments.c.status.in_(
        [it.value for it in Status if not it.is_terminal and it != Status.CAPTURED]
    )
    known = effects.c.operation.in_(
        (Operation.SALE, Operation.AUTHORISE)
    ) & effects.c.provider_reference.is_not(None)
    query = (
        select(payments.c.id, effects.c.key, effects.c.provider_reference, effects.c.amount_minor, effects.c.currency)
        .join(effects, effects.c.payment_id == payments.c.id)
        .where(is_open, known)
        .order_by(payments.c.id.desc())
        .limit(AMONG)
    )  # fmt: skip
    return [
        Victim(payment_id, key, intent_id, amount, currency.lower())
        for payment_id, key, intent_id, amount, currency in connection.execute(query)
    ]


def _event(kind: str, number: str, victim: Victim, status: str, amount: int) -> Json:
    intent = {
        "id": victim.intent_id or f"pi_forged_{number}",
        "object": "payment_intent",
        "amount": amount,
        "amount_received": amount if status == "succeeded" else 0,
        "currency": victim.currency,
        "status": status,
        "metadata": {"corridor_payment": victim.payment_id, "corridor_effect": victim.effect_key},
    }
    return {
        "id": f"evt_forged_{number}",
        "object": "event",
        "type": kind,
        "created": int(time.time()),
        "data": {"object": intent},
        "request": {"id": None, "idempotency_key": victim.effect_key},
    }


def content(name: str, number: str, victim: Victim) -> Json:
    """What this forgery says."""
    amount = victim.amount
    if name == "unknown_payment":
        return _event("payment_intent.succeeded", number, somebody("pay_01unknown"), "succeeded", amount)
    if name == "late_pending":
        return _event("payment_intent.processing", number, victim, "processing", amount)
    if name == "false_failure":
        return _event("payment_intent.payment_failed", number, victim, "requires_payment_method", amount)
    altered = 1 if name == "altered_amount" else amount
    return _event("payment_intent.succeeded", number, victim, "succeeded", altered)


def body(name: str, number: str, victim: Victim) -> bytes:
    """The same as it is signed."""
    return json.dumps(content(name, number, victim)).encode()


def _headers(name: str, body: bytes, secret: str) -> dict[str, str]:
    at = int(time.time()) - (3_600 if name == "old_timestamp" else 0)
    key = "whsec_somebody_else" if name == "wrong_secret" else secret
    signed = hmac.new(key.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return {} if name == "no_signature" else {"Stripe-Signature": f"t={at},v1={signed}"}


async def send(
    http: httpx.AsyncClient, secret: str, name: str, number: str, victim: Victim
) -> tuple[bool, str | None]:
    """Deliver one forgery: (the API judged it, what is wrong with the judgement)."""
    sent = body(name, number, victim)
    headers = _headers(name, sent, secret)
    if name == "reserialised":
        sent = json.dumps(json.loads(sent), separators=(",", ":")).encode()
    wanted = 401 if name in _REFUSED else 200
    for _ in range(2 if name == "sent_again" else 1):
        try:
            answer = await http.post(
                PATH, content=sent, headers={**headers, "Content-Type": "application/json"}
            )
        except httpx.TransportError:
            return False, None
        if answer.status_code in (429, 503) or not answer.headers.get("content-type", "").endswith("json"):
            return False, None
        if answer.status_code != wanted:
            return True, f"forged webhook {name} was answered {answer.status_code}, not {wanted}"
    return True, None
