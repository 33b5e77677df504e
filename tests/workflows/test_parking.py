"""A failure nobody foresaw parks a workflow until it is fixed; it never ends one that still owns money."""

import asyncio

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowUpdateRPCTimeoutOrCancelledError

from activities import payment_steps
from corridor.domain.failure import Refusal, Refused
from corridor.domain.money import Money
from tests.workflows.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_step_that_is_refused_against_all_expectation_parks_and_goes_on_once_fixed(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = await here.pay("pm_card_authenticationRequired")

    def refuse(*_: object) -> None:
        raise Refused(Refusal.NOT_FOUND, "planted")

    with monkeypatch.context() as broken:
        broken.setattr(payment_steps, "_move", refuse)
        with pytest.raises(WorkflowUpdateRPCTimeoutOrCancelledError):
            async with asyncio.timeout(4):
                await here.cancel(payment.id)
        described = await here.handle(payment.id).describe()
        assert described.status is WorkflowExecutionStatus.RUNNING
    await here.until(payment.id, "canceled")


async def test_a_capture_the_provider_cannot_express_is_refused_and_the_payment_lives_on(here: World) -> None:
    kuwait = {"settle_currency": "KWD", "destination_country": "KW"}
    payment = await here.authorize(amount=Money(10_000, "KWD"), **kuwait)
    # Stripe takes three-decimal currencies in steps of ten (docs.stripe.com/currencies).
    refused = await here.capture(payment.id, 1_001)
    assert refused["refused"] is not None
    assert (await here.payment(payment.id)).status == "authorized"
    assert (await here.capture(payment.id, 1_000))["refused"] is None
    assert (await here.payment(payment.id)).amount_captured_minor == 1_000
