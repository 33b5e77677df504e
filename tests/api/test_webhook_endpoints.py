"""Webhook endpoints over HTTP: the secret is shown once, changes are guarded by their version."""

from typing import Any

import pytest
from sqlalchemy import select

from corridor.storage import webhook_endpoints as store
from corridor.storage.tables import idempotency_keys, webhook_endpoints
from tests.api.conftest import Stand

URL = "https://shop.example/hooks"


async def created(stand: Stand, **changes: Any) -> dict[str, Any]:
    answer = await stand.post("/v1/webhook_endpoints", {"url": URL, **changes})
    assert answer.status_code == 201, answer.text
    endpoint: dict[str, Any] = answer.json()
    return endpoint


async def test_secret_is_shown_to_its_request_only_and_sealed_at_rest(stand: Stand) -> None:
    first = await stand.post("/v1/webhook_endpoints", {"url": URL}, key="w1")
    again = await stand.post("/v1/webhook_endpoints", {"url": URL}, key="w1")
    assert again.content == first.content and again.headers["Idempotent-Replayed"] == "true"
    secret = first.json()["secret"]
    assert secret.startswith("whsec_")
    read = await stand.get(f"/v1/webhook_endpoints/{first.json()['id']}")
    assert "secret" not in read.json() and secret not in (await stand.get("/v1/webhook_endpoints")).text
    rows = await stand.database.read(
        lambda connection: [
            *connection.execute(select(webhook_endpoints)).all(),
            *connection.execute(select(idempotency_keys)).all(),
        ]
    )
    assert secret not in repr(rows) and secret.encode() not in b"".join(
        value for row in rows for value in row if isinstance(value, bytes)
    )
    (row,) = await stand.database.read(store.of_merchant, stand.merchant_id)
    opened = stand.dependencies.sealer.open(row.secret_sealed, store.place(row.id))
    assert opened.decode() == secret


async def test_change_needs_the_version_it_was_read_at(stand: Stand) -> None:
    endpoint = await created(stand)
    path = f"/v1/webhook_endpoints/{endpoint['id']}"

    async def change(body: Any, **headers: str) -> Any:
        return await stand.http.patch(path, json=body, headers=stand.headers(**headers))

    body = {"events": ["payment.captured"], "enabled": False}
    blind = await change(body)
    assert (blind.status_code, blind.json()["code"]) == (428, "if_match_required")
    changed = await change(body, **{"If-Match": '"1"'})
    assert changed.status_code == 200 and changed.headers["ETag"] == '"2"'
    assert changed.json()["events"] == ["payment.captured"] and changed.json()["url"] == URL
    stale = await change({"enabled": True}, **{"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "etag_mismatch")
    assert (await stand.get(path)).json() == changed.json()


async def test_removed_endpoint_does_not_exist_any_more(stand: Stand) -> None:
    endpoint = await created(stand)
    path = f"/v1/webhook_endpoints/{endpoint['id']}"
    removed = await stand.http.delete(path, headers=stand.headers(**{"If-Match": '"1"'}))
    assert removed.status_code == 204 and removed.content == b""
    assert (await stand.get(path)).status_code == 404
    assert (await stand.get("/v1/webhook_endpoints")).json()["data"] == []


async def test_a_merchant_has_so_many_endpoints_and_no_more(small_stand: Stand) -> None:
    """Each event is a delivery to each of them; a removed one makes room."""
    endpoints = [await created(small_stand) for _ in range(store.MOST_ENDPOINTS)]
    refused = await small_stand.post("/v1/webhook_endpoints", {"url": URL}, key="one-more")
    assert (refused.status_code, refused.json()["code"]) == (422, "limit_exceeded")
    path = f"/v1/webhook_endpoints/{endpoints[0]['id']}"
    removed = await small_stand.http.delete(path, headers=small_stand.headers(**{"If-Match": '"1"'}))
    assert removed.status_code == 204
    again = await small_stand.post("/v1/webhook_endpoints", {"url": URL}, key="one-more")
    assert again.status_code == 201, "the refusal was not kept under the key"


async def test_another_merchants_endpoint_does_not_exist(small_stand: Stand) -> None:
    endpoint = await created(small_stand)
    path = f"/v1/webhook_endpoints/{endpoint['id']}"
    headers = small_stand.headers("other", **{"If-Match": '"1"'})
    assert (await small_stand.get(path, who="other")).status_code == 404
    assert (await small_stand.http.patch(path, json={"enabled": False}, headers=headers)).status_code == 404
    assert (await small_stand.http.delete(path, headers=headers)).status_code == 404


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/hooks",
        "https://127.0.0.1/hooks",
        "https://[::1]/hooks",
        "https://localhost/hooks",
        "https://user:pass@shop.example/",
        "https://shop.example:8443/",
        "ftp://shop.example/",
        "nonsense",
        "https://2130706433/",
    ],
)
async def test_url_nobody_should_be_made_to_call_is_refused(small_stand: Stand, url: str) -> None:
    answer = await small_stand.post("/v1/webhook_endpoints", {"url": url})
    assert (answer.status_code, answer.json()["code"]) == (422, "webhook_url_not_allowed")
    assert answer.json()["errors"][0]["pointer"] == "/url"
