"""Provider webhooks: verified over raw bytes, kept once, and only then acknowledged."""

import hashlib
import hmac
import json
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from corridor.storage import inbox
from corridor.storage.database import Database, DatabaseUnavailable
from corridor.storage.tables import provider_events
from tests.api.conftest import WEBHOOK_SECRET, Stand

PATH = "/v1/provider_webhooks/stripe"


def event(stand: Stand, number: int = 1, **changes: Any) -> bytes:
    document = {
        "id": f"evt_{number}",
        "object": "event",
        "type": "payment_intent.succeeded",
        "created": int(stand.clock().timestamp()) - 2,
        "data": {
            "object": {"object": "payment_intent", "id": "pi_1", "metadata": {"corridor_payment": "pay_1"}}
        },
        **changes,
    }
    return json.dumps(document).encode()


async def send(
    stand: Stand, body: bytes, *, secret: str = WEBHOOK_SECRET, age_seconds: int = 0
) -> httpx.Response:
    signed_at = int(stand.clock().timestamp()) - age_seconds
    signature = hmac.new(secret.encode(), f"{signed_at}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {"Stripe-Signature": f"t={signed_at},v1={signature}", "Content-Type": "application/json"}
    return await stand.http.post(PATH, content=body, headers=headers)


async def kept(stand: Stand) -> list[Any]:
    return list(
        await stand.database.read(lambda connection: connection.execute(select(provider_events)).all())
    )


async def test_event_is_kept_sealed_before_it_is_acknowledged(stand: Stand) -> None:
    body = event(stand)
    answer = await send(stand, body)
    assert (answer.status_code, answer.json()) == (200, {"received": "evt_1", "duplicate": False})
    (row,) = await kept(stand)
    assert (row.provider, row.provider_event_id, row.payment_id, row.state) == (
        "stripe",
        "evt_1",
        "pay_1",
        "stored",
    )
    assert body not in row.body and b"payment_intent" not in row.body
    assert stand.dependencies.sealer.open(row.body, inbox.place(row.id)) == body


async def test_event_that_could_not_be_kept_is_not_acknowledged(
    small_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider sends again what it got no 2xx for, and nothing else."""

    async def down(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("ConnectionRefusedError")

    with monkeypatch.context() as away:
        away.setattr(Database, "write", down)
        assert (await send(small_stand, event(small_stand))).status_code == 503
    assert (await send(small_stand, event(small_stand))).json() == {"received": "evt_1", "duplicate": False}
    assert len(await kept(small_stand)) == 1


async def test_replayed_event_is_acknowledged_and_kept_once(stand: Stand) -> None:
    body = event(stand)
    await send(stand, body)
    stand.clock.advance(60)
    again = await send(stand, body)
    assert (again.status_code, again.json()["duplicate"]) == (200, True)
    assert len(await kept(stand)) == 1


async def test_bad_signature_keeps_nothing(stand: Stand) -> None:
    good = event(stand)
    for answer in (
        await send(stand, good, secret="whsec_other"),
        await send(stand, good, age_seconds=301),
        await stand.http.post(PATH, content=good, headers={"Content-Type": "application/json"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (401, "signature_invalid")
    assert await kept(stand) == []


async def test_signed_bytes_may_hold_what_our_own_clients_may_not_send(small_stand: Stand) -> None:
    body = (
        event(small_stand, note="4242424242424242").replace(b'"note"', b'"id": "evt_1", "note"')
        + b"\n" * 400_000
    )
    assert (await send(small_stand, body)).status_code == 200


async def test_body_beyond_a_mebibyte_is_refused(small_stand: Stand) -> None:
    answer = await send(small_stand, event(small_stand) + b" " * 1024 * 1024)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_unknown_provider_is_not_found(small_stand: Stand) -> None:
    answer = await small_stand.http.post("/v1/provider_webhooks/paypal", content=b"{}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
