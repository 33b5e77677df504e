"""The port every payment provider is reached through: instructions in, judged answers out.

An adapter never decides what happens next. It freezes a request when the effect is declared, sends exactly those
bytes under the effect key, and judges the answer into one `Outcome`. What may be repeated, and for how long,
follows from the `IdempotencyContract` it declares (see `send_policy`).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, Protocol, runtime_checkable

from pydantic import Field

from corridor.domain.effect import FrozenRequest, Operation
from corridor.domain.money import Money
from corridor.domain.outcome import Evidence, Frozen, ProviderAnswer
from corridor.domain.sending import SendPolicy
from corridor.domain.settlement import SettlementBatch, SettlementPage


class Authorise(Frozen):
    """Authorise `amount` on a tokenised card; with `capture` the money is taken in the same call (a sale)."""

    kind: Literal["authorise"] = "authorise"
    effect_key: str
    payment_id: str
    amount: Money
    payment_token: str
    capture: bool
    return_url: str | None = None
    statement_suffix: str | None = None


class Capture(Frozen):
    """Capture `amount` of an authorisation; the rest is released."""

    kind: Literal["capture"] = "capture"
    effect_key: str
    payment_id: str
    provider_reference: str
    amount: Money


class Void(Frozen):
    """Release an authorisation, or abandon an attempt that has not moved money."""

    kind: Literal["void"] = "void"
    effect_key: str
    payment_id: str
    provider_reference: str
    reason: str = "requested_by_customer"


class Refund(Frozen):
    """Return `amount` of a captured payment to the buyer."""

    kind: Literal["refund"] = "refund"
    effect_key: str
    payment_id: str
    refund_id: str
    provider_reference: str
    amount: Money


Instruction = Annotated[Authorise | Capture | Void | Refund, Field(discriminator="kind")]


class IdempotencyContract(Frozen):
    """What the provider promises about repeats, declared by the adapter with its source in the docstring.

    Seconds throughout. `lookup_by_our_reference` means an effect can be found by its effect key alone;
    `lookup_lag_seconds` is how late a new effect may become visible to that look-up.
    """

    key_life_seconds: int | None
    stores_5xx: bool
    lookup_by_our_reference: bool
    lookup_lag_seconds: int
    lookup_is_consistent: bool
    longest_call_seconds: int
    """How long a call of ours may go on at the provider after we gave up on it."""
    horizon_seconds: int
    """How long evidence may still arrive before a person is asked."""


KEY_LIFE_MARGIN_SECONDS = 3600
"""Stop repeating an hour before a key's documented end; the documented life is a minimum, never more."""


ROUNDS = 3
"""With a key that makes repeats safe, a provider that was away for a minute or two costs no payment."""


def send_policy(contract: IdempotencyContract) -> SendPolicy:
    """Derive the retry policy of a send from the contract; the default, without any promise, is one attempt."""
    lag = max(contract.lookup_lag_seconds, 1)
    delays = (1, lag, 2 * lag) if contract.lookup_by_our_reference else ()
    repeatable = contract.key_life_seconds is not None and contract.key_life_seconds > KEY_LIFE_MARGIN_SECONDS
    life = (contract.key_life_seconds or 0) - KEY_LIFE_MARGIN_SECONDS
    return SendPolicy(
        maximum_attempts=4 if repeatable else 1,
        initial_interval_seconds=1.0,
        maximum_interval_seconds=10.0,
        give_up_after_seconds=life if repeatable else 0,
        lookup_delays_seconds=delays,
        absence_is_proof=contract.lookup_by_our_reference and contract.lookup_is_consistent,
        rounds=ROUNDS if repeatable else 1,
        answers_are_kept=contract.stores_5xx,
        last_look_delay_seconds=max(contract.longest_call_seconds - sum(delays), 0),
        last_word_delays_seconds=delays[:2],
    )


class Capabilities(Frozen):
    """What a provider can do; the router and the API refuse what is not here."""

    provider: str
    rail: Literal["card", "wallet", "bank_wire", "remittance"]
    operations: frozenset[Operation]
    currencies: frozenset[str]
    partial_capture: bool
    partial_refund: bool
    authorization_life_seconds: int
    call_timeout_seconds: float
    """The adapter's own HTTP deadline for a money call; an activity's timeout is longer."""


class LookUp(Frozen):
    """Which effect to look for, by what we know of it."""

    effect_key: str
    operation: Operation
    payment_id: str
    declared_at: datetime
    provider_reference: str | None = None
    amount: Money


class LookedUp(Frozen):
    """`answer` is None when the provider does not know the effect (yet). `evidence` says what was searched."""

    answer: ProviderAnswer | None
    evidence: Evidence


class LookUpFailed(Exception):
    """The look-up itself failed (403, 500, timeout); that says nothing about the effect. Try again later."""


class ProviderEvent(Frozen):
    """A verified webhook, reduced to what routes it: a hint to look, never the fact itself."""

    provider_event_id: str
    type: str
    created_at: datetime
    payment_id: str | None
    effect_key: str | None
    provider_reference: str | None
    is_setback: bool = False
    """It says that something which had succeeded no longer holds (a refund came back): always worth a look."""
    shows_money: bool = False
    """It shows the effect's money held or moved, for good: never news of an effect that is recorded as never made."""


class SignatureInvalid(Exception):
    """The webhook's signature or time stamp does not verify; nothing of it may be believed or stored as fact."""


class SeenEffect(Frozen):
    """Money the provider holds, took or returned on our account, with our own marks where it carries them."""

    provider_reference: str
    effect_key: str | None
    payment_id: str | None
    what: str


@runtime_checkable
class ListsEffects(Protocol):
    """A provider whose books can be read without knowing what to look for."""

    async def effects_since(self, since: datetime) -> tuple[SeenEffect, ...]:
        """Every payment and refund made there since then. Raises `LookUpFailed`."""
        ...


class PaymentProvider(Protocol):
    """What the core asks of a provider. Methods raise only what they document; the rest is an `Outcome`."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def contract(self) -> IdempotencyContract: ...

    def freeze(self, instruction: Instruction) -> FrozenRequest:
        """The exact bytes of the call. Raises `Refused` when the provider cannot express it (minimum, currency)."""
        ...

    async def send(self, effect_key: str, operation: Operation, request: FrozenRequest) -> ProviderAnswer:
        """Send the frozen bytes under the effect key, within `capabilities.call_timeout_seconds`."""
        ...

    async def look_up(self, wanted: LookUp) -> LookedUp:
        """Find the effect at the provider by what we know of it. Raises `LookUpFailed`."""
        ...

    async def ping(self) -> None:
        """A cheap read that proves the provider answers us. Raises `LookUpFailed`."""
        ...

    async def settlement_batches(self, since: datetime) -> tuple[SettlementBatch, ...]:
        """Payouts created since then whose contents are complete. Raises `LookUpFailed`."""
        ...

    async def settlement_page(self, batch_id: str, cursor: str | None) -> SettlementPage:
        """One page of the rows of a payout. Raises `LookUpFailed`."""
        ...

    def read_webhook(self, headers: Mapping[str, str], body: bytes, now: datetime) -> ProviderEvent:
        """Verify the raw bytes, then reduce them. Raises `SignatureInvalid`."""
        ...
