"""What a what-if finds about one payment: what was, what would have been, and the money between the two."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from corridor.domain.money import Money
from corridor.domain.quote import Quote
from corridor.storage.records import Json, time_view
from workers.whatif.past import Past


class Result(StrEnum):
    """In this order, the strongest last: what cannot be told leaves nothing else certain."""

    UNCHANGED = "unchanged"
    CHANGED = "changed"
    NOT_OBSERVABLE = "not_observable"


@dataclass(frozen=True)
class Difference:
    """Would be less was, in minor units. `figure`: collected, merchant, fee_income or fx_spread_income."""

    figure: str
    amount: Money


@dataclass(frozen=True)
class Finding:
    """One section's judgement. `why` is one of few texts, so that it can be counted; `detail` is this payment's own."""

    section: str
    result: Result
    was: str
    would_be: str
    why: str = ""
    detail: str = ""
    money: tuple[Difference, ...] = ()
    ends_payment: bool = False
    """The payment would not have been made: what later sections say of it is idle."""

    def document(self) -> Json:
        return {
            "section": self.section,
            "result": str(self.result),
            "was": self.was,
            "would_be": self.would_be,
            "why": self.why,
            "detail": self.detail,
        }


@dataclass(frozen=True)
class Judged:
    """All findings of one payment, as one; no more of the payment than a report says."""

    payment_id: str
    created_at: datetime
    amount: Money
    status: str
    findings: tuple[Finding, ...]

    @staticmethod
    def of(past: Past, findings: tuple[Finding, ...]) -> "Judged":
        row = past.payment
        return Judged(row.id, row.created_at, Money(row.amount_minor, row.currency), row.status, findings)

    @property
    def result(self) -> Result:
        return max((it.result for it in self.findings), key=list(Result).index, default=Result.UNCHANGED)

    @property
    def money(self) -> tuple[Difference, ...]:
        """Only what is certain: a payment that cannot be told as a whole adds nothing to the totals."""
        if self.result is Result.NOT_OBSERVABLE:
            return ()
        return tuple(it for finding in self.findings for it in finding.money if not it.amount.is_zero)

    def document(self) -> Json:
        return {
            "payment": self.payment_id,
            "created_at": time_view(self.created_at),
            "amount": str(self.amount),
            "status": self.status,
            "result": str(self.result),
            "findings": [it.document() for it in self.findings if it.result is not Result.UNCHANGED],
            "money": [
                {"figure": it.figure, "minor": it.amount.minor, "currency": it.amount.currency}
                for it in self.money
            ],
        }


def lost(past: Past) -> tuple[Difference, ...]:
    """All the money of a payment that would not have been made, less what went back to the buyer anyway."""
    share, kept = past.share(past.quotes[-1] if past.quotes else None), past.kept
    if share is None or kept is None:
        return ()
    merchant = past.given_up(share) - share.net
    return tuple(
        _differences(
            collected=-kept, merchant=merchant, fee_income=-share.fee, fx_spread_income=-share.spread
        )
    )


def between(past: Past, was: Quote, would_be: Quote) -> tuple[Difference, ...]:
    """What another quote changes for the merchant and for us; nothing where nothing was collected."""
    old, new = past.share(was), past.share(would_be)
    if old is None or new is None:
        return ()
    merchant = (new.net - past.given_up(new)) - (old.net - past.given_up(old))
    return tuple(
        _differences(
            merchant=merchant, fee_income=new.fee - old.fee, fx_spread_income=new.spread - old.spread
        )
    )


def _differences(**figures: Money) -> Iterable[Difference]:
    return (Difference(name, amount) for name, amount in figures.items())
