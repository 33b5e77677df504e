"""Recorded risk decisions read back: facts from their stored form, and whether deciding again gives the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from corridor.domain.currency import exponent
from corridor.domain.money import Money
from corridor.risk.decide import Facts, Velocity, Verdict, decide
from corridor.risk.policy import Policy

Data = dict[str, Any]


@dataclass(frozen=True)
class Recorded:
    """A row of `risk_decisions`, as it was written."""

    verdict: Verdict
    policy_version: str
    reasons: Sequence[Data]
    inputs: Data


def facts_of(inputs: Mapping[str, Any]) -> Facts:
    """The inverse of `Facts.as_data()`."""
    return Facts(
        amount=money_of(inputs["amount"]),
        value=_money_or_none(inputs["value"]),
        valuation=inputs["valuation"],
        source_country=inputs["source_country"],
        destination_country=inputs["destination_country"],
        corridor=inputs["corridor"],
        velocities=tuple(
            Velocity(it["rule"], it["count"], _money_or_none(it["amount"]), tuple(it["unvalued"]))
            for it in inputs["velocities"]
        ),
    )


def is_reproduced(policy: Policy, recorded: Recorded) -> bool:
    """Deciding again, on nothing but the recorded inputs, gives the record bit for bit: verdict, reasons and inputs."""
    again = decide(policy, facts_of(recorded.inputs))
    return (
        (again.verdict, again.policy_version) == (recorded.verdict, recorded.policy_version)
        and [reason.as_data() for reason in again.reasons] == list(recorded.reasons)
        and again.inputs == recorded.inputs
    )


def money_of(text: str) -> Money:
    """The inverse of `str(Money)`: `100.00 EUR`."""
    major, currency = text.split(" ")
    return Money(int(Decimal(major).scaleb(exponent(currency))), currency)


def _money_or_none(text: str | None) -> Money | None:
    return None if text is None else money_of(text)
