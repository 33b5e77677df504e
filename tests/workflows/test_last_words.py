"""A provider's last word under a key, and captures that were given up: what is proven by it, and what stays open."""

import asyncio

import pytest

from corridor.domain.effect import FrozenRequest, Operation
from corridor.domain.outcome import ProviderAnswer
from corridor.storage import effects, refunds
from tests.workflows.world import BriefStripe, World

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOR_EVER = 1000


async def test_a_stored_server_error_is_looked_up_and_not_repeated(here: World) -> None:
    await here.plant("status", status=500, stored=True, effect=True)
    payment = await here.pay()
    assert (payment.status, await here.effects(payment.id)) == ("captured", [("sale:1", "approved")])


async def test_a_stored_server_error_is_no_proof_that_nothing_came_of_it(here: World) -> None:
    """Stripe may roll the charge forward long after, and fires its webhook then; under another key it would be a second."""
    await here.plant("status", status=500, stored=True, effect=True)
    await here.plant("lookup_lag", seconds=6)
    payment = await here.pay()
    assert (payment.status, payment.status_reason) == ("requires_review", "outcome_unknown")
    await asyncio.sleep(6)
    await here.hint(payment.id)
    await here.until(payment.id, "captured")
    assert await here.effects(payment.id) == [("sale:1", "approved")]
    assert [effect for effect, _ in await here.moved(payment.id)].count("capture") == 1


async def test_a_refund_with_a_stored_server_error_is_a_persons_matter(here: World) -> None:
    payment = await here.pay()
    await here.plant("status", "refunds.create", status=500, stored=True)
    refund = await here.refund(payment.id, 2_500)
    assert refund.status == "requires_review"
    await here.decide_refund(refund.id, (await here.review(refund.id)).id, "absent")
    async with asyncio.timeout(10):
        while (await here.database.read(refunds.load, refund.id)).status != "failed":
            await asyncio.sleep(0.1)
    assert [effect for effect, _ in await here.moved(payment.id)].count("refund") == 0


async def test_a_capture_with_a_stored_server_error_takes_another_key(here: World) -> None:
    """An authorisation can be captured once, under whichever key."""
    payment = await here.authorize()
    await here.plant("status", "payment_intents.capture", status=500, stored=True)
    assert (await here.capture(payment.id))["status"] == "captured"
    assert await here.effects(payment.id) == [
        ("authorise:1", "approved"),
        ("capture:1", "not_sent"),
        ("capture:2", "approved"),
    ]


async def test_a_capture_that_is_rolled_forward_before_the_second_key_is_one_capture(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider carries the first one out by itself, after our last look and before the second is sent."""
    payment = await here.authorize()
    await here.plant("status", "payment_intents.capture", status=500, stored=True)
    send = BriefStripe.send

    async def after_a_roll_forward(
        self: BriefStripe, key: str, operation: Operation, request: FrozenRequest
    ) -> ProviderAnswer:
        if key.endswith(":capture:2"):
            await send(self, "the-providers-own", operation, request)
        return await send(self, key, operation, request)

    monkeypatch.setattr(BriefStripe, "send", after_a_roll_forward)
    assert (await here.capture(payment.id))["status"] == "captured"
    assert (await here.effects(payment.id))[-1] == ("capture:2", "approved")
    assert [effect for effect, _ in await here.moved(payment.id)].count("capture") == 1


@pytest.mark.parametrize("is_person", [True, False])
async def test_a_capture_given_up_too_early_is_booked_when_somebody_finds_it(
    here: World, is_person: bool
) -> None:
    """The provider refused every try of ours with 503, and had captured all the same."""
    payment = await here.authorize()
    await here.plant("front_status", "payment_intents.capture", times=FOR_EVER, status=503)
    answer = await here.capture(payment.id)
    assert (answer["refused"], answer["status"]) == ("outcome_unknown", "requires_review")
    assert (await here.effects(payment.id))[-1] == ("capture:1", "unknown")
    await here.heal()
    bytes_of_it = effects.request(await here.database.read(effects.get, f"{payment.id}:capture:1"))
    await here.stripe.send(f"{payment.id}:capture:1", Operation.CAPTURE, bytes_of_it)
    if is_person:
        assert (await here.decide(payment.id, "found"))["status"] == "captured"
    else:
        await here.hint(payment.id)
    await here.until(payment.id, "captured")
    await here.settle()
    await here.until(payment.id, "settled")
