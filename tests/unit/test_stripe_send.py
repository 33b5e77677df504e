"""Sending: what a broken exchange proves, what is sent, and how “already done” answers are resolved."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from corridor.domain.effect import Operation
from corridor.domain.failure import InvariantBroken
from corridor.domain.money import Money
from corridor.domain.outcome import Outcome, ProviderAnswer
from corridor.providers.port import Authorise, Capture, Instruction, Refund, Void
from corridor.providers.stripe.adapter import StripeProvider
from corridor.providers.stripe.client import MAXIMUM_BODY_BYTES

NOW = datetime(2026, 10, 1, tzinfo=UTC)
SECRET = "sk_test_never_to_be_printed"
Answers = Callable[[httpx.Request], httpx.Response]

SALE = Authorise(
    effect_key="pay_1:sale:1",
    payment_id="pay_1",
    amount=Money(1_000, "EUR"),
    payment_token="pm_card_visa",
    capture=True,
    return_url="https://shop.example/back",
)
CAPTURE = Capture(
    effect_key="pay_1:capture:1", payment_id="pay_1", provider_reference="pi_1", amount=Money(1_000, "EUR")
)
VOID = Void(effect_key="pay_1:void:1", payment_id="pay_1", provider_reference="pi_1")
REFUND = Refund(
    effect_key="rfd_1:refund:1",
    payment_id="pay_1",
    refund_id="rfd_1",
    provider_reference="pi_1",
    amount=Money(400, "EUR"),
)


def intent(**changes: Any) -> dict[str, Any]:
    return {
        "id": "pi_1",
        "object": "payment_intent",
        "status": "succeeded",
        "amount": 1_000,
        "amount_received": 1_000,
        "currency": "eur",
        "metadata": {"corridor_effect": "pay_1:sale:1"},
        **changes,
    }


def refused(code: str) -> httpx.Response:
    return httpx.Response(400, json={"error": {"type": "invalid_request_error", "code": code}})


def provider(
    answers: Answers | httpx.AsyncBaseTransport, base_url: str = "https://stripe.test", seconds: float = 0.3
) -> StripeProvider:
    transport = answers if isinstance(answers, httpx.AsyncBaseTransport) else httpx.MockTransport(answers)
    return StripeProvider(
        base_url=base_url,
        secret_key=SecretStr(SECRET),
        webhook_secrets=[],
        clock=lambda: NOW,
        call_timeout_seconds=seconds,
        transport=transport,
    )


async def send(to: StripeProvider, instruction: Instruction, operation: Operation) -> ProviderAnswer:
    try:
        return await to.send(instruction.effect_key, operation, to.freeze(instruction))
    finally:
        await to.close()


async def test_one_call_carries_key_version_and_the_frozen_bytes() -> None:
    seen: list[httpx.Request] = []

    def answers(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(
            200, json=intent(), headers={"Request-Id": "req_7", "Idempotent-Replayed": "true"}
        )

    stripe = provider(answers, "https://stripe.test/prefix/")
    frozen = stripe.freeze(SALE)
    answer = await send(stripe, SALE, Operation.SALE)
    (request,) = seen
    assert str(request.url) == "https://stripe.test/prefix/v1/payment_intents"
    assert request.content == frozen.body.encode()
    assert request.headers["Idempotency-Key"] == "pay_1:sale:1"
    assert request.headers["Stripe-Version"] == "2026-10-28.endive"
    assert request.headers["Authorization"] == f"Bearer {SECRET}"
    assert (answer.evidence.request_id, answer.evidence.replayed) == ("req_7", True)
    assert answer.evidence.provider_status == "succeeded"


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout])
async def test_connection_never_made_is_not_sent(error: type[httpx.TransportError]) -> None:
    def answers(request: httpx.Request) -> httpx.Response:
        raise error("no")

    answer = await send(provider(answers), SALE, Operation.SALE)
    assert (answer.outcome, answer.repeat_is_safe) == (Outcome.NOT_SENT, True)


@pytest.mark.parametrize(
    "error",
    [httpx.ReadTimeout, httpx.WriteTimeout, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError],
)
async def test_exchange_broken_later_is_unknown(error: type[httpx.TransportError]) -> None:
    def answers(request: httpx.Request) -> httpx.Response:
        raise error("no")

    answer = await send(provider(answers), SALE, Operation.SALE)
    assert (answer.outcome, answer.repeat_is_safe) == (Outcome.UNKNOWN, True)
    assert answer.evidence.note == error.__name__


async def test_refused_and_unresolvable_hosts_are_not_sent_on_a_real_socket() -> None:
    for base_url in ("http://127.0.0.1:1", "http://nowhere.invalid"):
        answer = await send(provider(httpx.AsyncHTTPTransport(), base_url, 20), SALE, Operation.SALE)
        assert answer.outcome is Outcome.NOT_SENT, base_url


class Slow(httpx.AsyncByteStream):
    """A body that drips for ever: every read arrives in time, the whole never does."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.05)
            yield b" "


class Endless(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(2 + MAXIMUM_BODY_BYTES // 65_536):
            yield b" " * 65_536
        raise AssertionError("reading went on beyond the limit")


async def test_dripping_answer_ends_at_the_deadline_as_unknown() -> None:
    started = asyncio.get_running_loop().time()
    answer = await send(provider(lambda _: httpx.Response(200, stream=Slow())), SALE, Operation.SALE)
    assert (answer.outcome, answer.repeat_is_safe) == (Outcome.UNKNOWN, True)
    assert answer.evidence.note == "deadline"
    assert asyncio.get_running_loop().time() - started < 20


async def test_oversized_answer_is_unknown_and_not_read_to_its_end() -> None:
    answer = await send(provider(lambda _: httpx.Response(200, stream=Endless())), SALE, Operation.SALE)
    assert (answer.outcome, answer.repeat_is_safe) == (Outcome.UNKNOWN, True)
    assert answer.evidence.note == "unreadable_body"


async def test_redirect_is_not_followed() -> None:
    seen: list[str] = []

    def answers(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(307, headers={"Location": "https://elsewhere.test/"}, json=intent())

    assert (await send(provider(answers), SALE, Operation.SALE)).outcome is Outcome.UNKNOWN
    assert len(seen) == 1


async def test_secret_appears_in_no_representation_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    stripe = provider(lambda _: httpx.Response(401, json={"error": {"type": "invalid_request_error"}}))
    answer = await send(stripe, SALE, Operation.SALE)
    everything = repr(vars(stripe)) + repr(vars(stripe._client)) + answer.model_dump_json() + caplog.text
    assert SECRET not in everything


async def test_only_posts_move_money() -> None:
    stripe = provider(lambda _: httpx.Response(200, json=intent()))
    frozen = stripe.freeze(SALE).model_copy(update={"method": "GET"})
    with pytest.raises(InvariantBroken):
        await stripe.send(SALE.effect_key, Operation.SALE, frozen)
    await stripe.close()


def conflict_then(refusal: httpx.Response, state: httpx.Response | dict[str, Any]) -> Answers:
    """POST is refused, GET shows the state."""

    def answers(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return refusal
        return state if isinstance(state, httpx.Response) else httpx.Response(200, json=state)

    return answers


UNEXPECTED = "payment_intent_unexpected_state"


@pytest.mark.parametrize(
    ("instruction", "operation", "state", "outcome"),
    [
        (CAPTURE, Operation.CAPTURE, intent(), Outcome.APPROVED),
        (CAPTURE, Operation.CAPTURE, intent(amount_received=900), Outcome.UNKNOWN),
        (CAPTURE, Operation.CAPTURE, intent(status="canceled"), Outcome.DECLINED),
        (CAPTURE, Operation.CAPTURE, intent(status="requires_action"), Outcome.DECLINED),
        (CAPTURE, Operation.CAPTURE, intent(status="requires_capture"), Outcome.UNKNOWN),
        (CAPTURE, Operation.CAPTURE, intent(status="status_of_tomorrow"), Outcome.PENDING),
        (VOID, Operation.VOID, intent(status="canceled"), Outcome.APPROVED),
        (VOID, Operation.VOID, intent(), Outcome.DECLINED),
        (VOID, Operation.VOID, intent(status="processing"), Outcome.PENDING),
    ],
)
async def test_unexpected_state_is_read_and_judged(
    instruction: Capture | Void, operation: Operation, state: dict[str, Any], outcome: Outcome
) -> None:
    answer = await send(provider(conflict_then(refused(UNEXPECTED), state)), instruction, operation)
    assert answer.outcome is outcome


async def test_state_that_cannot_be_read_leaves_the_outcome_unknown() -> None:
    for state in (
        httpx.Response(500),
        httpx.Response(404, json={"error": {}}),
        httpx.Response(200, text="<html>"),
    ):
        answer = await send(provider(conflict_then(refused(UNEXPECTED), state)), CAPTURE, Operation.CAPTURE)
        assert (answer.outcome, answer.repeat_is_safe) == (Outcome.UNKNOWN, False)
        assert answer.evidence.note == f"state_not_read: {UNEXPECTED}"


async def test_state_that_takes_too_long_is_unknown_and_not_repeated() -> None:
    slow = httpx.Response(200, stream=Slow())
    answer = await send(provider(conflict_then(refused(UNEXPECTED), slow)), CAPTURE, Operation.CAPTURE)
    assert (answer.outcome, answer.repeat_is_safe) == (Outcome.UNKNOWN, False)


async def test_refund_refused_as_already_done_is_ours_or_somebody_elses() -> None:
    ours = {
        "id": "re_1",
        "object": "refund",
        "status": "succeeded",
        "amount": 400,
        "currency": "eur",
        "metadata": {"corridor_effect": "rfd_1:refund:1"},
    }
    for row, outcome in ((ours, Outcome.APPROVED), ({**ours, "metadata": {}}, Outcome.DECLINED)):

        def answers(request: httpx.Request, row: dict[str, Any] = row) -> httpx.Response:
            if request.method == "POST":
                return refused("charge_already_refunded")
            if request.url.path == "/v1/refunds/re_1":
                return httpx.Response(200, json=row)
            assert request.url.params["payment_intent"] == "pi_1"
            return httpx.Response(200, text=json.dumps({"object": "list", "has_more": False, "data": [row]}))

        assert (await send(provider(answers), REFUND, Operation.REFUND)).outcome is outcome
