"""The Stripe adapter against the sandbox's Stripe over real HTTP, held to the shared conformance suite."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from corridor.domain.effect import Operation
from corridor.domain.money import Money
from corridor.domain.outcome import DeclineCategory, Outcome
from corridor.providers.conformance import ProviderConformance
from corridor.providers.conformance_harness import Case, Fault, SentCall
from corridor.providers.stripe.adapter import StripeProvider
from corridor.sandbox.config import SandboxConfig
from corridor.sandbox.embedded import EmbeddedSandbox

WEBHOOK_SECRET = "whsec_corridor_conformance"
ROLLED_SECRET = "whsec_corridor_before_the_roll"
CALL_TIMEOUT_SECONDS = 1.5

RULES: Mapping[Fault, tuple[str, dict[str, Any]]] = {
    Fault.TIMEOUT_AFTER_EFFECT: ("*", {"kind": "timeout_after_effect"}),
    Fault.RESET_BEFORE_EFFECT: ("*", {"kind": "reset_before_effect"}),
    Fault.STORED_500_AFTER_EFFECT: ("*", {"kind": "status", "status": 500, "stored": True, "effect": True}),
    Fault.STORED_500_WITHOUT_EFFECT: ("*", {"kind": "status", "status": 500, "stored": True}),
    Fault.RATE_LIMITED: ("*", {"kind": "status", "status": 429}),
    Fault.GARBAGE_BODY: ("*", {"kind": "garbage_body"}),
    Fault.UNKNOWN_STATUS: ("*", {"kind": "unknown_status"}),
    Fault.LOOK_UP_REFUSED: ("payment_intents.list", {"kind": "status", "status": 503}),
}


class Wire(httpx.AsyncHTTPTransport):
    """The real transport, which remembers money calls and can falsify one answer the sandbox cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[SentCall] = []
        self.falsify: Fault | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            key = request.headers["Idempotency-Key"]
            self.sent.append(SentCall(key, request.url.path, request.content))
        response = await super().handle_async_request(request)
        wanted = {Fault.WRONG_AMOUNT: "payment_intents", Fault.BAD_SETTLEMENT_ROW: "balance_transactions"}
        if self.falsify is None or not request.url.path.endswith(wanted[self.falsify]):
            return response
        document = json.loads(await response.aread())
        if self.falsify is Fault.WRONG_AMOUNT:
            document["amount"] = document["amount_received"] = document["amount"] - 100
        else:
            document["data"][1]["net"] = "12,34"
        self.falsify = None
        return httpx.Response(response.status_code, json=document)


class StripeHarness:
    amount = Money(20_000, "EUR")
    approving_token = "pm_card_visa"
    challenging_token = "pm_card_threeDSecure2Required"
    declining_tokens: Mapping[str, DeclineCategory] = {
        "pm_card_visa_chargeDeclinedInsufficientFunds": DeclineCategory.SOFT,
        "pm_card_chargeDeclinedProcessingError": DeclineCategory.SOFT,
        "pm_card_visa_chargeDeclinedVelocityLimitExceeded": DeclineCategory.SOFT,
        "pm_card_visa_chargeDeclined": DeclineCategory.HARD,
        "pm_card_chargeDeclinedExpiredCard": DeclineCategory.HARD,
        "pm_card_chargeDeclinedIncorrectCvc": DeclineCategory.HARD,
        "pm_card_visa_chargeDeclinedLostCard": DeclineCategory.FRAUD,
        "pm_card_visa_chargeDeclinedStolenCard": DeclineCategory.FRAUD,
        "pm_card_radarBlock": DeclineCategory.FRAUD,
    }

    def __init__(self, url: str) -> None:
        self.wire = Wire()
        self.control = httpx.AsyncClient(base_url=f"{url}/control")
        self.provider = StripeProvider(
            base_url=f"{url}/stripe",
            secret_key=SecretStr("sk_test_conformance"),
            webhook_secrets=[SecretStr(ROLLED_SECRET), SecretStr(WEBHOOK_SECRET)],
            clock=self.now,
            call_timeout_seconds=CALL_TIMEOUT_SECONDS,
            transport=self.wire,
        )

    @property
    def sent(self) -> list[SentCall]:
        return self.wire.sent

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def inject(self, fault: Fault) -> None:
        if fault not in RULES:
            self.wire.falsify = fault
            return
        operation, rule = RULES[fault]
        planted = await self.control.post("/faults", json={"match": {"operation": operation}, "fault": rule})
        assert planted.status_code == 201, planted.text

    async def moved(self, payment_id: str, operation: Operation) -> list[int]:
        wanted = {"metadata_key": "corridor_payment", "metadata_value": payment_id, "effect": operation.value}
        books = (await self.control.get("/books", params={**wanted, "limit": 1000})).json()
        return [row["amount"] for row in books["data"]]

    async def settle(self) -> None:
        (await self.control.post("/settle")).raise_for_status()

    def webhook(self, effect: str, age: timedelta) -> tuple[dict[str, str], bytes]:
        metadata = {"corridor_payment": effect.partition(":")[0], "corridor_effect": effect}
        intent = {"id": "pi_1", "object": "payment_intent", "status": "succeeded", "metadata": metadata}
        signed_at = int((self.now() - age).timestamp())
        event = {"id": "evt_1", "object": "event", "type": "payment_intent.succeeded", "created": signed_at}
        body = json.dumps({**event, "data": {"object": intent}}).encode()
        digest = hmac.new(WEBHOOK_SECRET.encode(), f"{signed_at}.".encode() + body, hashlib.sha256)
        return {"Stripe-Signature": f"t={signed_at},v1={digest.hexdigest()}"}, body

    async def close(self) -> None:
        rules = (await self.control.get("/faults")).json()
        await self.control.delete("/faults")
        await self.control.aclose()
        await self.provider.close()
        assert self.wire.falsify is None, "a fault that never happened proves nothing"
        assert all(rule["fired"] == rule["times"] for rule in rules), rules


@pytest.fixture(scope="module")
def sandbox_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = SandboxConfig(
        port=0,
        data_dir=tmp_path_factory.mktemp("sandbox"),
        payout_period_seconds=0,
        settlement_currency="eur",
    )
    with EmbeddedSandbox(config) as sandbox:
        yield sandbox.url


@pytest.fixture
async def harness(sandbox_url: str) -> AsyncIterator[StripeHarness]:
    made = StripeHarness(sandbox_url)
    yield made
    await made.close()


class TestStripe(ProviderConformance):
    """Inherits every claim; adds what only Stripe has."""

    async def test_challenge_without_a_return_page_is_declined_at_once(self, harness: StripeHarness) -> None:
        case = Case.new(harness)
        absent = case.authorise(capture=True, token=harness.challenging_token).model_copy(
            update={"return_url": None}
        )
        answer = await case.send(absent)
        assert answer.outcome is Outcome.DECLINED
        assert answer.decline is not None
        assert answer.decline.reason == "authentication_required"

    @pytest.mark.parametrize(
        ("currency", "minor"),
        [("JPY", 1_500), ("KWD", 12_340), ("ISK", 5_000), ("HUF", 990_000), ("CNY", 8_800)],
    )
    async def test_currencies_with_other_decimals_arrive_whole(
        self, harness: StripeHarness, currency: str, minor: int
    ) -> None:
        case = Case.new(harness)
        sale = case.authorise(capture=True).model_copy(update={"amount": Money(minor, currency)})
        answer = await case.send(sale)
        assert (answer.outcome, answer.amount) == (Outcome.APPROVED, Money(minor, currency))

    async def test_converted_rows_carry_the_buyers_amount_and_the_rate(self, harness: StripeHarness) -> None:
        case = Case.new(harness)
        sale = case.authorise(capture=True).model_copy(update={"amount": Money(88_000, "CNY")})
        await case.approved(sale)
        await harness.settle()
        batches = await harness.provider.settlement_batches(harness.now() - timedelta(hours=1))
        pages = [await harness.provider.settlement_page(batch.batch_id, None) for batch in batches]
        line = next(line for page in pages for line in page.lines if line.effect_key == sale.effect_key)
        assert line.converted_from == Money(88_000, "CNY")
        assert line.gross.currency == "EUR"
        assert line.gross == line.net + line.fee
        assert line.rate is not None
