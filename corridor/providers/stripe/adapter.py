"""The Stripe adapter: the provider port spoken over Stripe's HTTP API."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import httpx
from pydantic import SecretStr

from corridor.domain.effect import FrozenRequest, Operation
from corridor.domain.failure import invariant
from corridor.domain.outcome import Evidence, Outcome, ProviderAnswer
from corridor.domain.settlement import SettlementBatch, SettlementPage
from corridor.providers.port import (
    Capabilities,
    IdempotencyContract,
    Instruction,
    LookedUp,
    LookUp,
    LookUpFailed,
    ProviderEvent,
    SeenEffect,
)
from corridor.providers.stripe import listing, mapping, requests, settlement, webhooks
from corridor.providers.stripe.capabilities import API_VERSION, CALL_TIMEOUT_SECONDS, CAPABILITIES, CONTRACT
from corridor.providers.stripe.client import MaybeSent, NeverSent, Reply, StripeClient
from corridor.providers.stripe.lookup import Finder, read

T = TypeVar("T")


class StripeProvider:
    """A `PaymentProvider`. Close it with `close()`; it owns a connection pool.

    No method outlives `call_timeout_seconds`: a call that its caller has given up on cannot send anything later.
    """

    def __init__(
        self,
        *,
        base_url: str,
        secret_key: SecretStr,
        webhook_secrets: Sequence[SecretStr],
        clock: Callable[[], datetime],
        api_version: str = API_VERSION,
        call_timeout_seconds: float = CALL_TIMEOUT_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._client = StripeClient(base_url, secret_key, api_version, call_timeout_seconds, transport)
        self._finder = Finder(self._client, clock)
        self._webhook_secrets = tuple(webhook_secrets)
        self._clock = clock
        self._capabilities = CAPABILITIES.model_copy(update={"call_timeout_seconds": call_timeout_seconds})

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def contract(self) -> IdempotencyContract:
        return CONTRACT

    def freeze(self, instruction: Instruction) -> FrozenRequest:
        """The exact bytes of the call. Raises `Refused` when Stripe cannot express it."""
        return requests.freeze(instruction)

    async def send(self, effect_key: str, operation: Operation, request: FrozenRequest) -> ProviderAnswer:
        """Send the frozen bytes once under the effect key and judge the answer; never raises for what Stripe does."""
        invariant(request.method == "POST", "money calls are POSTs: only those carry the idempotency key")
        expected = mapping.Expected.of_request(operation, effect_key, request)
        evidence = Evidence(seen_at=self._clock())
        answered = False
        try:
            async with asyncio.timeout(self._capabilities.call_timeout_seconds):
                reply = await self._client.post(request, effect_key)
                answered, evidence = True, mapping.evidence_of(reply, self._clock())
                if mapping.is_state_conflict(reply):
                    return await self._judge_by_state(reply, expected, evidence)
                return mapping.judge_reply(reply, expected, evidence)
        except NeverSent as failure:
            return mapping.not_sent(evidence, str(failure))
        except MaybeSent as failure:
            return mapping.unknown(evidence, str(failure), repeat_is_safe=True)
        except TimeoutError:
            # An answered call that ran out of time was reading the object's state: repeating it brings nothing new.
            return mapping.unknown(evidence, "deadline", repeat_is_safe=not answered)

    async def look_up(self, wanted: LookUp) -> LookedUp:
        """Find the effect by its id or our metadata. Raises `LookUpFailed`."""
        return await self._within_deadline(self._finder.find(wanted))

    async def ping(self) -> None:
        """Read the account's balance: authenticated, and the cheapest object there is. Raises `LookUpFailed`."""
        await self._within_deadline(read(self._client, "/v1/balance"))

    async def settlement_batches(self, since: datetime) -> tuple[SettlementBatch, ...]:
        """Paid automatic payouts created since then whose contents are complete. Raises `LookUpFailed`."""
        return await self._within_deadline(settlement.batches(self._client, since))

    async def settlement_page(self, batch_id: str, cursor: str | None) -> SettlementPage:
        """One page of a payout's balance transactions. Raises `LookUpFailed`."""
        return await self._within_deadline(settlement.page_of(self._client, batch_id, cursor))

    async def effects_since(self, since: datetime) -> tuple[SeenEffect, ...]:
        """Every payment and refund made on the account since then. Raises `LookUpFailed`."""
        return await listing.effects_since(self._client, since)

    def read_webhook(self, headers: Mapping[str, str], body: bytes, now: datetime) -> ProviderEvent:
        """Verify the raw bytes, then reduce them. Raises `SignatureInvalid`."""
        webhooks.verify(headers, body, self._webhook_secrets, now)
        return webhooks.reduce_event(body)

    async def close(self) -> None:
        """Close the connection pool."""
        await self._client.close()

    async def _judge_by_state(
        self, refusal: Reply, expected: mapping.Expected, evidence: Evidence
    ) -> ProviderAnswer:
        """“Already done” answers: an earlier call or somebody else moved the object, so its state decides."""
        if expected.intent_id is None:
            return mapping.unknown(evidence, "state_conflict", repeat_is_safe=False)
        try:
            found = await self._finder.state(expected.operation, expected.effect_key, expected.intent_id)
        except LookUpFailed:
            return mapping.unknown(
                evidence, "state_not_read", repeat_is_safe=False, reference=expected.intent_id
            )
        if found is None:
            # A complete list of the payment's refunds without ours: the refusal stands.
            return mapping.judge_reply(refusal, expected, evidence)
        document, reply = found
        answer = mapping.judge_object(document, expected, mapping.evidence_of(reply, self._clock()))
        status = answer.evidence.provider_status
        if answer.outcome is Outcome.PENDING and status == "requires_capture":
            return mapping.unknown(evidence, "state_contradicts_refusal", repeat_is_safe=False)
        if answer.outcome is Outcome.PENDING and status in mapping.NOT_YET.get(
            expected.operation, frozenset()
        ):
            return mapping.judge_reply(refusal, expected, evidence)
        return answer

    async def _within_deadline(self, reading: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._capabilities.call_timeout_seconds):
                return await reading
        except TimeoutError:
            raise LookUpFailed("the deadline passed before the answer was complete") from None
