"""The payment's story, told by real workflows against a real database and the sandbox's own books."""

import asyncio

import pytest
from sqlalchemy import Connection, select

from corridor.domain.money import Money
from corridor.storage.inbox import InboxState
from corridor.storage.tables import provider_events
from tests.workflows.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_sale_is_captured_and_settled(everywhere: World) -> None:
    payment = await everywhere.pay()
    assert payment.status == "captured", payment
    await everywhere.settle()
    payment = await everywhere.until(payment.id, "settled")
    assert (await everywhere.moved(payment.id))[:2] == [("authorise", 10_000), ("capture", 10_000)]
    assert payment.settled_minor > 0
    assert (await everywhere.handle(payment.id).result())["status"] == "settled"


@pytest.mark.parametrize(
    ("amount", "country", "currency"),
    [(Money(12_345, "JPY"), "CN", "CNY"), (Money(12_340, "KWD"), "KW", "KWD")],
)
async def test_an_amount_without_or_with_three_decimals_reaches_the_provider_unscaled(
    here: World, amount: Money, country: str, currency: str
) -> None:
    payment = await here.pay(amount=amount, destination_country=country, settle_currency=currency)
    assert payment.status == "captured", payment.status_reason
    assert ("capture", amount.minor) in await here.moved(payment.id)
    await here.settle()
    assert (await here.until(payment.id, "settled")).settled_charged_minor == amount.minor


@pytest.mark.parametrize(
    ("token", "category"),
    [
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "soft"),
        ("pm_card_visa_chargeDeclined", "hard"),
        ("pm_card_visa_chargeDeclinedStolenCard", "fraud"),
    ],
)
async def test_a_declined_payment_fails_with_its_category_and_moves_nothing(
    here: World, token: str, category: str
) -> None:
    payment = await here.pay(token)
    assert (payment.status, payment.status_reason) == ("failed", "declined_by_provider")
    assert payment.decline["category"] == category
    assert await here.moved(payment.id) == []


async def test_a_buyer_who_authenticates_pays_and_the_first_hint_is_enough(here: World) -> None:
    payment = await here.pay("pm_card_threeDSecure2Required")
    assert payment.status == "requires_action"
    assert payment.next_action["url"].endswith(payment.provider_reference)
    await here.finish_challenge(payment.id)
    await here.hint(payment.id)
    payment = await here.until(payment.id, "captured", seconds=15)
    assert payment.next_action is None


async def test_a_buyer_who_fails_the_challenge_is_declined(here: World) -> None:
    payment = await here.pay("pm_card_threeDSecure2Required")
    await here.finish_challenge(payment.id, "fail")
    await here.hint(payment.id)
    payment = await here.until(payment.id, "failed", seconds=15)
    assert payment.decline["category"] == "authentication"


async def test_the_events_of_a_challenge_that_was_canceled_are_known_already(here: World) -> None:
    """Its workflow is gone: an event kept for it would be tried for days, and end as one that is nobody's."""
    payment = await here.pay("pm_card_threeDSecure2Required")
    await here.cancel(payment.id)
    assert (await here.handle(payment.id).result())["status"] == "canceled"
    assert await here.route_webhooks() > 0
    assert await here.database.read(_inbox) == {InboxState.CONFIRMED}


async def test_an_abandoned_challenge_expires_and_the_attempt_is_voided(here: World) -> None:
    here.windows = type(here.windows)(action_window_seconds=2)
    payment = await here.pay("pm_card_threeDSecure2Required")
    payment = await here.until(payment.id, "expired", seconds=15)
    assert payment.status_reason == "authentication_abandoned"
    assert ("void:1", "approved") in await here.effects(payment.id)


async def test_a_payment_waiting_for_the_buyer_can_be_canceled(here: World) -> None:
    payment = await here.pay("pm_card_threeDSecure2Required")
    answer = await here.cancel(payment.id)
    assert (answer["refused"], answer["status"]) == (None, "canceled")


async def test_ten_payments_at_once_are_ten_sales(everywhere: World) -> None:
    paid = await asyncio.gather(*(everywhere.pay() for _ in range(10)))
    assert [payment.status for payment in paid] == ["captured"] * 10
    await everywhere.settle()
    await asyncio.gather(*(everywhere.until(payment.id, "settled") for payment in paid))


def _inbox(connection: Connection) -> set[str]:
    return set(connection.execute(select(provider_events.c.state)).scalars())
