"""What a timeline is made of: things that happened, in one order, and how a payment stood after any of them.

The platform database tells what was decided and recorded; the workflow's history, where Temporal still has it, tells
what woke each step and how often it was tried. Both are joined here by time. Nothing is recomputed: a state is the
snapshot the payment's event froze, and a balance is the fold of the ledger's entries up to that moment.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from corridor.storage.records import Json, time_view


class Kind(StrEnum):
    """What happened. In this order within one instant: rows of one transaction carry one time, causes come first."""

    WORKFLOW = "workflow"
    SETTLEMENT = "settlement"
    PROVIDER_WEBHOOK = "provider_webhook"
    RISK = "risk"
    LOOK = "look"
    ANSWER = "answer"
    REVIEW_DECIDED = "review_decided"
    QUOTE = "quote"
    POSTING = "posting"
    EVENT = "event"
    REVIEW_OPENED = "review_opened"
    EFFECT = "effect"
    MERCHANT_WEBHOOK = "merchant_webhook"


_ORDER = {kind: number for number, kind in enumerate(Kind)}


@dataclass(frozen=True)
class Place:
    """Where in the workflow's history it stands: steps name when they were asked for, wakes are what came from outside."""

    number: int
    is_wake: bool = False
    scheduled: int | None = None
    began: datetime | None = None


@dataclass(frozen=True)
class Happening:
    """One thing that happened. `recorded_at` is the time its transaction carries, where that is another than `at`."""

    at: datetime
    kind: Kind
    object_id: str
    text: str
    facts: Json = field(default_factory=dict)
    recorded_at: datetime | None = None
    place: Place | None = None

    @property
    def transaction(self) -> datetime:
        return self.recorded_at or self.at

    def document(self) -> Json:
        return {
            "at": time_view(self.at),
            "kind": str(self.kind),
            "object": self.object_id,
            "text": self.text,
            "facts": self.facts,
        }


@dataclass(frozen=True)
class Balance:
    """An account the payment moved: by how much so far, and what the whole account held then. Debits positive."""

    account: str
    currency: str
    moved_minor: int
    balance_minor: int


@dataclass(frozen=True)
class Cause:
    """Why an event came about: who or what acted, and the records that say so."""

    actor: str
    text: str
    evidence: tuple[Happening, ...] = ()

    def document(self) -> Json:
        return {
            "actor": self.actor,
            "text": self.text,
            "evidence": [it.document() for it in self.evidence],
        }


@dataclass(frozen=True)
class Moment:
    """The payment exactly as it was after one event of its own or of one of its refunds."""

    event: Happening
    payment: Json
    refunds: tuple[Json, ...]
    cause: Cause
    balances: tuple[Balance, ...]
    open_effects: tuple[Json, ...]
    open_reviews: tuple[Json, ...]
    deadlines: Json

    def document(self) -> Json:
        return {
            "event": self.event.document(),
            "cause": self.cause.document(),
            "payment": self.payment,
            "refunds": list(self.refunds),
            "balances": [vars(balance) for balance in self.balances],
            "open_effects": list(self.open_effects),
            "open_reviews": list(self.open_reviews),
            "deadlines": self.deadlines,
        }


@dataclass(frozen=True)
class Timeline:
    """The whole story. `without_history` says why Temporal's part is missing, if it is."""

    payment: Json
    happenings: tuple[Happening, ...]
    without_history: str | None = None
    moment: Moment | None = None

    def document(self) -> Json:
        return {
            "payment": self.payment,
            "history": {"joined": self.without_history is None, "problem": self.without_history},
            "moment": None if self.moment is None else self.moment.document(),
            "timeline": [happening.document() for happening in self.happenings],
        }


class NoSuchEvent(Exception):
    """The payment has no event with this number or id."""


def in_order(*parts: Iterable[Happening]) -> tuple[Happening, ...]:
    """By time; within one transaction causes before what they caused, and an object's events by their number."""
    every = [happening for part in parts for happening in part]
    return tuple(sorted(every, key=_rank))


def _rank(it: Happening) -> tuple[datetime, int, int]:
    number = it.place.number if it.place is not None else it.facts.get("sequence", 0)
    return it.at, _ORDER[it.kind], number


def find_event(happenings: Sequence[Happening], payment_id: str, wanted: str) -> Happening:
    """The event with this id, or with this number among the payment's own. Raises `NoSuchEvent`."""
    events = [it for it in happenings if it.kind is Kind.EVENT]
    for event in events:
        is_number = wanted.isdecimal() and event.object_id == payment_id
        if event.facts["event"] == wanted or (is_number and event.facts["sequence"] == int(wanted)):
            return event
    own = [it.facts["sequence"] for it in events if it.object_id == payment_id]
    raise NoSuchEvent(f"no event {wanted}; {payment_id} has events 1 to {max(own)}")
