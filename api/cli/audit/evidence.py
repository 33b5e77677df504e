"""What the proofs stand on: plain records of both sides, as they were at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from corridor.domain.money import Money
from corridor.domain.quote import Quote, Slippage
from corridor.ledger.report import Report


@dataclass(frozen=True)
class Movement:
    """One line of the provider's own books. `key` names the cause: our effect key, payment or the payout's id."""

    kind: str
    key: str
    amount: Money
    at: datetime | None = None
    """By the provider's clock."""
    hold: str | None = None
    """The provider's own id of the authorisation that the line is about, where it is about one."""


@dataclass(frozen=True)
class Effect:
    """A provider call we declared, and what we hold of it."""

    key: str
    payment_id: str
    operation: str
    state: str
    amount: Money
    looks: int = 0
    is_answered: bool = True
    """Whether the answer that decided it is stored, with what was seen."""


@dataclass(frozen=True)
class Posted:
    """A posting with its legs: (account, signed minor units, debits positive)."""

    key: str
    kind: str
    object_id: str
    legs: tuple[tuple[str, int], ...]

    def on(self, prefix: str) -> dict[str, int]:
        """Signed minor units by currency of the legs on accounts that begin so."""
        sums: dict[str, int] = {}
        for account, minor in self.legs:
            if account.startswith(prefix):
                currency = account.rpartition("/")[2]
                sums[currency] = sums.get(currency, 0) + minor
        return sums


@dataclass(frozen=True)
class Paid:
    """A payment as it ended."""

    id: str
    reference: str
    corridor: str
    status: str
    reason: str | None
    decline: str | None
    sequence: int
    amount: Money
    captured: Money
    refunded: Money
    settled: Money | None


@dataclass(frozen=True)
class Returned:
    """A refund as it ended; `is_reported` when a settlement row of the provider told of it."""

    id: str
    payment_id: str
    status: str
    sequence: int
    amount: Money
    is_reported: bool


@dataclass(frozen=True)
class Told:
    """An event of one object, which became `status` by it; `position` is its place in the merchant's feed."""

    id: str
    merchant_id: str
    object_id: str
    sequence: int
    position: int | None
    status: str = ""


@dataclass(frozen=True)
class Lock:
    """The rate a payment holds, and what the merchant allowed to become of the one it was promised first."""

    payment_id: str
    quote: Quote
    is_used: bool
    promised: Quote | None
    """None: its row is gone."""
    slippage: Slippage


@dataclass(frozen=True)
class Decided:
    """A review as its row has it."""

    id: str
    status: str
    decision: str | None
    decided_by: str | None
    note: str | None
    decided_at: datetime | None


@dataclass(frozen=True)
class Acted:
    """An operator's act as its row has it; without an outcome it was begun, and nobody wrote how it ended."""

    id: str
    at: datetime
    who: str
    command: str
    words: Mapping[str, Any]
    outcome: str | None


@dataclass(frozen=True)
class Ordered:
    """A shop's command on its payment, and all that was said to it."""

    payment_id: str
    command: str
    """`capture` or `cancel`."""
    key: str
    statuses: frozenset[int]
    captured: Money | None
    """What an answer 200 said was captured of it by then; None without one."""


@dataclass(frozen=True)
class Taken:
    """A provider's webhook that was answered with 2xx, by the provider's own list."""

    event_id: str
    at: datetime


@dataclass(frozen=True)
class Kept:
    """A provider's webhook in our inbox, and how far it has come; `due_at` is by the clock of the relay that looked."""

    event_id: str
    state: str
    tries: int
    due_at: datetime


@dataclass(frozen=True)
class Undelivered:
    """An event whose webhook is not at its end; `next_attempt_at` is by the clock of the worker that tried last."""

    event_id: str
    attempts: int
    next_attempt_at: datetime | None


@dataclass(frozen=True)
class Received:
    """A webhook as it arrived at a merchant: who signed it is checked by the receiver, not by us."""

    merchant: str
    event_id: str
    object_id: str
    sequence: int
    is_verified: bool
    status: int
    problem: str = ""
    """Why the receiver refused the signature, in its own words."""


@dataclass(frozen=True)
class Evidence:
    """Both sides at one moment at which nothing moved any more."""

    ledger: Report
    postings: tuple[Posted, ...]
    effects: tuple[Effect, ...]
    payments: tuple[Paid, ...]
    refunds: tuple[Returned, ...]
    events: tuple[Told, ...]
    batches: Mapping[str, Money]
    quotes: Mapping[str, Quote]
    locks: tuple[Lock, ...]
    reviews: tuple[Decided, ...]
    operators: frozenset[str]
    """Ids of the operators' keys."""
    acts: tuple[Acted, ...]
    deliveries: int
    undelivered: tuple[Undelivered, ...]
    judged: frozenset[str]
    """Ids of payments that a person declined or whose risk decision was no."""
    movements: tuple[Movement, ...]
    received: tuple[Received, ...]
    taken: tuple[Taken, ...]
    inbox: tuple[Kept, ...]
    queue: Mapping[str, int]
    """The provider's own webhooks by state, as its queue has them: waiting, delivered, exhausted."""
    read_at: datetime
    """When our side was read."""
