# ruff: noqa: S101 - part of a test suite that ships, so that adapters kept elsewhere can run it
"""What the conformance suite needs of a provider's test module, and the payment each of its tests is about.

The harness reads the provider's own books, never the adapter's word, when money is counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from corridor.domain.effect import Operation, effect_key
from corridor.domain.ids import Prefix, new_id
from corridor.domain.money import Money
from corridor.domain.outcome import DeclineCategory, Outcome, ProviderAnswer
from corridor.providers.port import (
    Authorise,
    Capture,
    Instruction,
    LookedUp,
    LookUp,
    PaymentProvider,
    Refund,
    Void,
)


class Fault(StrEnum):
    """What a harness can make happen to the next call it applies to, once."""

    TIMEOUT_AFTER_EFFECT = "timeout_after_effect"
    RESET_BEFORE_EFFECT = "reset_before_effect"
    STORED_500_AFTER_EFFECT = "stored_500_after_effect"
    STORED_500_WITHOUT_EFFECT = "stored_500_without_effect"
    RATE_LIMITED = "rate_limited"
    GARBAGE_BODY = "garbage_body"
    WRONG_AMOUNT = "wrong_amount"
    UNKNOWN_STATUS = "unknown_status"
    BAD_SETTLEMENT_ROW = "bad_settlement_row"
    LOOK_UP_REFUSED = "look_up_refused"


@dataclass(frozen=True)
class SentCall:
    """A money call as it left the adapter: the bytes on the wire."""

    effect_key: str
    path: str
    body: bytes


class Harness(Protocol):
    """What a provider's test module supplies."""

    @property
    def provider(self) -> PaymentProvider: ...

    @property
    def amount(self) -> Money: ...

    @property
    def approving_token(self) -> str: ...

    @property
    def challenging_token(self) -> str: ...

    @property
    def declining_tokens(self) -> Mapping[str, DeclineCategory]: ...

    @property
    def sent(self) -> Sequence[SentCall]: ...

    def now(self) -> datetime:
        """The clock the adapter was given."""
        ...

    async def inject(self, fault: Fault) -> None:
        """Arm a fault for the next money call (the next report page, the next look-up)."""
        ...

    async def moved(self, payment_id: str, operation: Operation) -> list[int]:
        """From the provider's own books: the amount of every movement of this kind for the payment, in our units."""
        ...

    async def settle(self) -> None:
        """Let the provider pay out everything collected so far."""
        ...

    def webhook(self, effect: str, age: timedelta) -> tuple[dict[str, str], bytes]:
        """Headers and body of an event about the effect, signed by the provider that long ago."""
        ...


@dataclass(frozen=True)
class Case:
    """One payment of a test and what was asked for it."""

    harness: Harness
    payment_id: str

    @staticmethod
    def new(harness: Harness) -> "Case":
        """A payment that nobody else has."""
        return Case(harness, new_id(Prefix.PAYMENT, harness.now()))

    def authorise(self, *, capture: bool, token: str | None = None) -> Authorise:
        """The first effect: a sale with `capture`, else an authorisation."""
        operation = Operation.SALE if capture else Operation.AUTHORISE
        return Authorise(
            effect_key=effect_key(self.payment_id, operation, 1),
            payment_id=self.payment_id,
            amount=self.harness.amount,
            payment_token=token or self.harness.approving_token,
            capture=capture,
            return_url="https://shop.example/return",
        )

    def capture(self, reference: str, amount: Money) -> Capture:
        """Capture of `amount`."""
        key = effect_key(self.payment_id, Operation.CAPTURE, 1)
        return Capture(
            effect_key=key, payment_id=self.payment_id, provider_reference=reference, amount=amount
        )

    def void(self, reference: str) -> Void:
        """Release of the authorisation."""
        key = effect_key(self.payment_id, Operation.VOID, 1)
        return Void(effect_key=key, payment_id=self.payment_id, provider_reference=reference)

    def refund(self, reference: str, amount: Money) -> Refund:
        """A refund with an id of its own."""
        refund_id = new_id(Prefix.REFUND, self.harness.now())
        return Refund(
            effect_key=effect_key(refund_id, Operation.REFUND, 1),
            payment_id=self.payment_id,
            refund_id=refund_id,
            provider_reference=reference,
            amount=amount,
        )

    async def send(self, instruction: Instruction) -> ProviderAnswer:
        """Freeze and send once."""
        provider = self.harness.provider
        return await provider.send(
            instruction.effect_key, operation_of(instruction), provider.freeze(instruction)
        )

    async def approved(self, instruction: Instruction) -> str:
        """Send, insist on approval and return the provider's reference."""
        answer = await self.send(instruction)
        assert answer.outcome is Outcome.APPROVED, answer
        assert answer.provider_reference is not None, "an approval without reference cannot be refunded"
        return answer.provider_reference

    async def look_up(self, instruction: Instruction, reference: str | None = None) -> LookedUp:
        """Look the effect up as a worker does that knows only what was declared."""
        return await self.harness.provider.look_up(
            LookUp(
                effect_key=instruction.effect_key,
                operation=operation_of(instruction),
                payment_id=self.payment_id,
                declared_at=self.harness.now() - timedelta(seconds=1),
                provider_reference=reference,
                amount=self.harness.amount if isinstance(instruction, Void) else instruction.amount,
            )
        )

    async def moved(self, operation: Operation) -> list[int]:
        """What the provider's own books say."""
        return await self.harness.moved(self.payment_id, operation)


def operation_of(instruction: Instruction) -> Operation:
    """The operation an instruction asks for."""
    match instruction:
        case Authorise(capture=True):
            return Operation.SALE
        case Authorise():
            return Operation.AUTHORISE
        case Capture():
            return Operation.CAPTURE
        case Void():
            return Operation.VOID
        case Refund():
            return Operation.REFUND
