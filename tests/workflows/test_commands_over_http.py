"""Commands over HTTP, on the real workflow: what a merchant hears of a capture whose outcome nobody knows."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr
from sqlalchemy import Connection

from api import credentials
from api.__main__ import DeskQuotes
from api.admission import PolicyAdmission
from api.app import create_app
from api.dependencies import ApiDependencies
from api.gateway import TemporalGateway
from corridor.runtime.settings import load
from corridor.storage.merchants import Role
from tests.workflows.world import World, now

pytestmark = pytest.mark.asyncio(loop_scope="session")

PEPPER = SecretStr("pepper-of-this-test")
FOR_EVER = 1000


class Shop:
    """The API of a world, asked by its merchant and by an operator."""

    def __init__(self, http: httpx.AsyncClient, keys: Mapping[str, str]) -> None:
        self._http, self._keys = http, keys

    async def post(self, path: str, body: Any, key: str, who: str = "merchant") -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._keys[who]}", "Idempotency-Key": key}
        return await self._http.post(path, json=body, headers=headers)


@pytest_asyncio.fixture
async def shop(here: World, tmp_path: Path) -> AsyncIterator[Shop]:
    edge = here.wired.edge
    dependencies = ApiDependencies(
        database=edge.database,
        gateway=TemporalGateway(here.client),
        settings=load(data_dir=tmp_path, api_key_pepper=PEPPER, answer_deadline_seconds=60),
        quotes=DeskQuotes(edge.desk, edge.database),
        admission=PolicyAdmission(edge.policies, edge.desk.per_euro),
        registry=edge.providers,
        sealer=here.wired.sealer,
        clock=now,
    )
    keys = await here.database.write(_keys, here.merchant_id)
    app = create_app(dependencies)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api.test", timeout=90) as http,
    ):
        yield Shop(http, keys)


@pytest.mark.parametrize(
    ("fault", "decision", "status", "became"),
    [
        ("reset_after_effect", "found", 200, "captured"),
        ("reset_before_effect", "absent", 409, "authorized"),
    ],
)
async def test_the_key_of_an_unknown_capture_says_how_it_ended(
    here: World, shop: Shop, fault: str, decision: str, status: int, became: str
) -> None:
    """The update keeps its first result for ever; the answer follows what became of the payment."""
    payment = await here.authorize()
    here.without_keys()
    await here.plant(fault, "payment_intents.capture")
    await here.plant("status", "payment_intents.retrieve", times=FOR_EVER, status=503)
    path = f"/v1/payments/{payment.id}:capture"
    for _ in range(2):
        unknown = await shop.post(path, {}, "c1")
        assert (unknown.status_code, unknown.json()["code"]) == (409, "outcome_unknown"), unknown.text
        assert unknown.json()["money_state"] == "unknown"

    review = await here.review(payment.id)
    body = {"decision": decision, "note": "seen in the provider's dashboard"}
    decided = await shop.post(f"/v1/reviews/{review.id}:decide", body, "d1", who="operator")
    assert (decided.status_code, decided.json()["decision"]) == (200, decision), decided.text
    again = await shop.post(f"/v1/reviews/{review.id}:decide", body, "d2", who="operator")
    assert (again.status_code, again.json()) == (200, decided.json())
    await here.heal()

    known = await shop.post(path, {}, "c1")
    assert (known.status_code, (await here.payment(payment.id)).status) == (status, became), known.text
    assert (await shop.post(path, {}, "c1")).content == known.content
    if status == 409:
        assert (known.json()["code"], known.json()["retry"]) == ("state_conflict", "new_key")
        assert (await shop.post(path, {}, "c2")).json()["status"] == "captured"


def _keys(connection: Connection, merchant_id: str) -> dict[str, str]:
    def key(owner: str | None, role: Role) -> str:
        return credentials.issue(
            connection, merchant_id=owner, role=role, mode="test", pepper=PEPPER, now=now()
        )

    return {"merchant": key(merchant_id, "merchant"), "operator": key(None, "operator")}
