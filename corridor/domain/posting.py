"""A posting: one balanced set of ledger entries with a unique key."""

from collections import defaultdict
from collections.abc import Iterable

from pydantic import model_validator

from corridor.domain.failure import invariant
from corridor.domain.money import Money
from corridor.domain.outcome import Frozen


class Entry(Frozen):
    """One leg: debit positive, credit negative. `account` ends in the currency (`clearing/stripe/EUR`)."""

    account: str
    amount: Money

    @model_validator(mode="after")
    def _account_is_of_the_currency(self) -> "Entry":
        invariant(
            self.account.endswith(f"/{self.amount.currency}"),
            f"{self.account} holds no {self.amount.currency}",
        )
        return self


class Posting(Frozen):
    """Entries that sum to zero per currency. Posting the same `key` again is a no-op that returns the first."""

    key: str
    kind: str
    object_id: str
    entries: tuple[Entry, ...]

    @model_validator(mode="after")
    def _balances(self) -> "Posting":
        invariant(len(self.entries) >= 2, f"posting {self.key} has fewer than two entries")
        for currency, total in totals(self.entries).items():
            invariant(total == 0, f"posting {self.key} is off by {total} minor units of {currency}")
        return self


def totals(entries: Iterable[Entry]) -> dict[str, int]:
    """Sum of minor units per currency."""
    sums: dict[str, int] = defaultdict(int)
    for entry in entries:
        sums[entry.amount.currency] += entry.amount.minor
    return dict(sums)


def debit(account: str, amount: Money) -> Entry:
    """A positive leg on `<account>/<currency>`."""
    invariant(amount.minor >= 0, "debits are given as positive amounts")
    return Entry(account=f"{account}/{amount.currency}", amount=amount)


def credit(account: str, amount: Money) -> Entry:
    """A negative leg on `<account>/<currency>`, given as a positive amount."""
    invariant(amount.minor >= 0, "credits are given as positive amounts")
    return Entry(account=f"{account}/{amount.currency}", amount=-amount)


def posting(key: str, kind: str, object_id: str, entries: Iterable[Entry]) -> Posting:
    """Build a posting, leaving out zero legs (a payment without spread has no spread leg)."""
    return Posting(
        key=key,
        kind=kind,
        object_id=object_id,
        entries=tuple(entry for entry in entries if not entry.amount.is_zero),
    )
