"""Gaps: what a database that came back older than the world does not know, each with what was or must be done."""

from dataclasses import dataclass, field
from enum import StrEnum


class GapKind(StrEnum):
    """What is missing, as an operator says it."""

    PAYMENT = "payment_missing"
    REFUND = "refund_missing"
    REQUEST = "request_missing"
    QUOTE = "quote_missing"
    EFFECT = "effect_missing"
    OUTCOME = "outcome_missing"
    POSTING = "posting_missing"
    STATUS = "status_behind"
    REVIEW = "review_missing"
    DECISION = "decision_missing"
    EVENTS = "events_missing"
    DELIVERY = "delivery_outcome_missing"
    BATCH = "settlement_batch_missing"
    ROWS = "settlement_rows_missing"
    KEY_TAKEN = "idempotency_key_taken"
    DIVERGED = "history_and_database_differ"
    UNDER_WAY = "call_under_way"
    MERCHANT = "merchant_missing"
    SEALED = "history_sealed"
    UNREAD = "history_not_readable"
    NO_HISTORY = "no_history"
    STRANGER = "provider_effect_unknown"
    UNREACHABLE = "provider_not_reached"


DIFFERING = (GapKind.DIVERGED, GapKind.UNDER_WAY)
"""A payment that could not be brought up to its histories: its workflows that are ahead are stopped."""


@dataclass(frozen=True)
class Gap:
    """One gap. `advice` is empty where the histories and the provider prove what was, and it can be made again.

    Otherwise a person is needed, and `advice` says for what.
    """

    kind: GapKind
    object_id: str
    found: str
    advice: str = ""

    @property
    def is_provable(self) -> bool:
        return not self.advice

    def __str__(self) -> str:
        return f"{self.kind} {self.object_id}: {self.found}{f'; {self.advice}' if self.advice else ''}"


@dataclass
class Findings:
    """What one run of the check found; `repaired` says that the provable gaps are closed now."""

    repaired: bool
    histories: int = 0
    gaps: list[Gap] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    """Workflows that were ahead of a database that could not be brought up to them."""
    made_again: list[str] = field(default_factory=list)
    """Payments whose repair is committed, whatever becomes of the run after it."""

    def note(self, payment_id: str, gaps: list[Gap]) -> bool:
        """Gaps of one payment whose repair is committed; True when something was made again."""
        self.gaps += gaps
        is_made = any(gap.is_provable for gap in gaps)
        if is_made and payment_id not in self.made_again:
            self.made_again.append(payment_id)
        return is_made

    @property
    def provable(self) -> list[Gap]:
        return [gap for gap in self.gaps if gap.is_provable]

    @property
    def left(self) -> list[Gap]:
        """What a person must look at."""
        return [gap for gap in self.gaps if not gap.is_provable]
