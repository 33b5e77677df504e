"""What the risk policy refuses at the door."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from api.admission import PolicyAdmission
from corridor.domain.accepted import NewPayment
from corridor.domain.failure import Refusal, Refused
from corridor.domain.money import Money
from corridor.risk.policy import shipped

NOW = datetime(2026, 11, 20, tzinfo=UTC)
LIMIT = shipped().in_force(NOW).rules.amount.maximum


def new(amount: Money, source_country: str = "DE") -> NewPayment:
    return NewPayment(
        id="pay_1",
        merchant_id="mer_1",
        amount=amount,
        settle_currency="CNY",
        source_country=source_country,
        destination_country="CN",
        payment_token="pm_card_visa",
        instrument="card-a",
    )


def per_euro(_now: datetime) -> tuple[date, dict[str, Decimal]]:
    return NOW.date(), {"JPY": Decimal(160)}


def no_rates(_now: datetime) -> tuple[date, dict[str, Decimal]]:
    raise Refused(Refusal.RATE_UNAVAILABLE, "too old")


def test_limit_is_inclusive_and_the_refusal_names_rule_and_field() -> None:
    admission = PolicyAdmission(shipped(), per_euro)
    admission.check(new(LIMIT), NOW)
    with pytest.raises(Refused) as refused:
        admission.check(new(Money(LIMIT.minor + 1, "EUR")), NOW)
    assert refused.value.code is Refusal.LIMIT_EXCEEDED and refused.value.pointer == "/amount/minor"
    assert refused.value.facts["limit"] == str(LIMIT)


def test_limit_counts_in_euros_whatever_the_currency() -> None:
    admission = PolicyAdmission(shipped(), per_euro)
    yen = LIMIT.minor // 100 * 160
    admission.check(new(Money(yen, "JPY"), "JP"), NOW)
    with pytest.raises(Refused):
        admission.check(new(Money(yen + 160, "JPY"), "JP"), NOW)


def test_day_without_rates_leaves_the_judgement_to_risk() -> None:
    PolicyAdmission(shipped(), no_rates).check(new(Money(10**14, "JPY"), "JP"), NOW)
    with pytest.raises(Refused):
        PolicyAdmission(shipped(), no_rates).check(new(Money(LIMIT.minor + 1, "EUR")), NOW)


def test_closed_corridor_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        PolicyAdmission(shipped(), per_euro).check(new(Money(100, "EUR"), "RU"), NOW)
    assert refused.value.code is Refusal.CORRIDOR_NOT_ENABLED
