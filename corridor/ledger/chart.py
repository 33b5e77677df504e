"""The chart of accounts: every account the ledger may hold; nothing else builds an account's name.

Names are paths whose last part is the currency (`clearing/stripe/EUR`). The functions below give the path without
it, because `debit` and `credit` add the currency of the amount.
"""

from enum import StrEnum

from corridor.domain.currency import is_currency
from corridor.domain.failure import broken


class AccountKind(StrEnum):
    """What an account is for. Clearing and suspense return to zero or are an aged case that somebody owns."""

    CLEARING = "clearing"
    BANK = "bank"
    MERCHANT_PENDING = "merchant_pending"
    MERCHANT_AVAILABLE = "merchant_available"
    MERCHANT_RESERVED = "merchant_reserved"
    FX_POSITION = "fx_position"
    FEE_INCOME = "fee_income"
    FX_SPREAD_INCOME = "fx_spread_income"
    PROVIDER_FEES = "provider_fees"
    ROUNDING = "rounding"
    SUSPENSE = "suspense"


NEVER_IN_DEBIT = frozenset(
    {AccountKind.MERCHANT_PENDING, AccountKind.MERCHANT_AVAILABLE, AccountKind.MERCHANT_RESERVED}
)
"""Money we owe to merchants: it may run down to zero and never turn into a debt of theirs by accident."""

RETURNS_TO_ZERO = frozenset({AccountKind.CLEARING, AccountKind.SUSPENSE})

FX_POSITION = "fx/position"
FEE_INCOME = "income/fees"
FX_SPREAD_INCOME = "income/fx_spread"
PROVIDER_FEES = "expense/provider_fees"
ROUNDING = "rounding"
SUSPENSE = "suspense"


_KIND_BY_SHAPE = {
    "clearing/*": AccountKind.CLEARING,
    "bank/*": AccountKind.BANK,
    "merchant/*/pending": AccountKind.MERCHANT_PENDING,
    "merchant/*/available": AccountKind.MERCHANT_AVAILABLE,
    "merchant/*/reserved": AccountKind.MERCHANT_RESERVED,
    FX_POSITION: AccountKind.FX_POSITION,
    FEE_INCOME: AccountKind.FEE_INCOME,
    FX_SPREAD_INCOME: AccountKind.FX_SPREAD_INCOME,
    PROVIDER_FEES: AccountKind.PROVIDER_FEES,
    ROUNDING: AccountKind.ROUNDING,
    SUSPENSE: AccountKind.SUSPENSE,
}


def clearing(provider: str) -> str:
    """What the provider has collected for us and not paid yet."""
    return f"clearing/{provider}"


def bank(name: str = "main") -> str:
    """Our own bank account, where providers pay to."""
    return f"bank/{name}"


def pending(merchant_id: str) -> str:
    """Captured for the merchant, not yet settled by the provider."""
    return f"merchant/{merchant_id}/pending"


def available(merchant_id: str) -> str:
    """Settled; the merchant may be paid out or refund from it."""
    return f"merchant/{merchant_id}/available"


def reserved(merchant_id: str) -> str:
    """Set aside for refunds that are accepted and not proven yet."""
    return f"merchant/{merchant_id}/reserved"


def on(path: str, currency: str) -> str:
    """The full name of an account: `path` in `currency`."""
    return f"{path}/{currency}"


def currency_of(account: str) -> str:
    """The currency an account is kept in."""
    return account.rpartition("/")[2]


def kind_of(account: str) -> AccountKind:
    """The kind of a full account name; a name outside the chart is our bug (`InvariantBroken`)."""
    path, _, currency = account.rpartition("/")
    kind = _KIND_BY_SHAPE.get(_shape(path))
    if kind is None or not is_currency(currency):
        broken(f"account {account} is not in the chart")
    return kind


def _shape(path: str) -> str:
    """The path with its variable part, a provider, bank or merchant, as `*`."""
    match path.split("/"):
        case ["clearing" | "bank" as head, name] if name:
            return f"{head}/*"
        case ["merchant", merchant_id, pocket] if merchant_id:
            return f"merchant/*/{pocket}"
    return path


def never_in_debit(account: str) -> bool:
    """True when the account's debits may not exceed its credits; the store refuses such a posting."""
    return kind_of(account) in NEVER_IN_DEBIT
