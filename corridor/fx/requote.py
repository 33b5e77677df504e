"""What happens when a lock ran out before execution: go on at the new rate, or not."""

from decimal import localcontext
from enum import StrEnum
from typing import assert_never

from corridor.domain.failure import invariant
from corridor.domain.quote import Quote


class SlippagePolicy(StrEnum):
    """What the merchant wants then; the values of `Slippage.policy`."""

    REQUOTE = "requote"
    REJECT = "reject"


class Requote(StrEnum):
    """Whether the payment goes on at the new rate."""

    ACCEPT = "accept"
    REJECT = "reject"


def after_expiry(old: Quote, new: Quote, slippage_max_bps: int, policy: str) -> Requote:
    """Accept a rate that is worse for the merchant by at most `slippage_max_bps`; a better one always passes.

    (old - new) / old <= max / 10,000 is compared as products, so nothing is rounded at the limit.
    """
    same_pair = old.buy_amount.currency == new.buy_amount.currency
    invariant(same_pair and old.sell_amount == new.sell_amount, "a requote is for the same amount and pair")
    match SlippagePolicy(policy):
        case SlippagePolicy.REJECT:
            return Requote.REJECT
        case SlippagePolicy.REQUOTE:
            with localcontext() as context:
                context.prec = 100
                worse = (old.client_rate - new.client_rate) * 10_000
                return Requote.ACCEPT if worse <= old.client_rate * slippage_max_bps else Requote.REJECT
        case unknown:
            assert_never(unknown)
