"""While a provider is down, new work for it is refused before anything is accepted; the rest goes on."""

from datetime import timedelta

import httpx
from sqlalchemy import update

from corridor.domain.payment import Status
from corridor.storage import outages
from corridor.storage.outages import Cause
from corridor.storage.tables import payments
from tests.api.conftest import Stand, order


async def outage(stand: Stand, seconds: int = 12) -> None:
    """Stripe is down; every payment there is was routed to it."""
    now = stand.clock()
    await stand.database.write(
        lambda connection: connection.execute(update(payments).values(provider="stripe"))
    )
    until = now + timedelta(seconds=seconds)
    await stand.database.write(outages.note, "stripe", Cause.UNREACHABLE, "gone", now, until)
    # What the door knows may be a second old; a test does not wait for that.
    stand.dependencies.outages._read_at = float("-inf")


def assert_refused(refused: httpx.Response) -> None:
    assert refused.status_code == 503, refused.text
    assert refused.headers["Retry-After"] == "12"
    problem = refused.json()
    assert (problem["code"], problem["retry"], problem["money_state"]) == (
        "unavailable",
        "same_key",
        "not_moved",
    )


async def test_a_payment_is_refused_before_it_is_accepted_and_its_key_stays_free(stand: Stand) -> None:
    await outage(stand)
    assert_refused(await stand.post("/v1/payments", order(), key="k1"))
    assert (await stand.get("/v1/payments")).json()["data"] == []
    assert stand.gateway.started == []
    stand.clock.advance(12)
    assert (await stand.post("/v1/payments", order(), key="k1")).status_code == 201


async def test_a_payment_that_was_answered_is_answered_again(stand: Stand) -> None:
    first = await stand.post("/v1/payments", order(), key="k1")
    await outage(stand)
    again = await stand.post("/v1/payments", order(), key="k1")
    assert (again.status_code, again.content) == (201, first.content)


async def test_a_refund_is_refused(stand: Stand) -> None:
    paid = await stand.paid()
    await outage(stand)
    assert_refused(await stand.post("/v1/refunds", {"payment": paid["id"]}))
    assert (await stand.get("/v1/refunds")).json()["data"] == []


async def test_a_capture_is_refused_and_a_cancel_is_taken(stand: Stand) -> None:
    stand.gateway.outcome = Status.AUTHORIZED
    paid = await stand.paid(capture="manual")
    await outage(stand)
    assert_refused(await stand.post(f"/v1/payments/{paid['id']}:capture", {}))
    assert stand.gateway.sent == []
    assert (await stand.post(f"/v1/payments/{paid['id']}:cancel", {})).status_code in (200, 202)
    assert [sent.update for sent in stand.gateway.sent] == ["cancel"]
