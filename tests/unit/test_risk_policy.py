"""Claims about risk policies as data: what is shipped, what is in force, and what is refused."""

from datetime import UTC, datetime
from decimal import Decimal
from importlib import resources
from pathlib import Path

import pytest

from corridor.domain.money import Money
from corridor.risk.policy import Policies, PolicyBroken, Scope, load, read, shipped
from corridor.risk.valuation import Valuation, unvalued

FIRST_DAY = datetime(2026, 11, 1, tzinfo=UTC)
SHIPPED = (resources.files("corridor.risk") / "policies" / "2026-11-01.toml").read_text("utf-8")


def changed(old: str, new: str) -> bytes:
    assert old in SHIPPED
    return SHIPPED.replace(old, new, 1).encode()


def test_the_shipped_policy_is_in_force_from_its_first_second() -> None:
    policy = shipped().in_force(FIRST_DAY)
    assert policy.version.startswith("2026-11-01+")
    assert policy.rules.amount.review_above == Money(500_000, "EUR")
    assert {rule.scope for rule in policy.rules.velocity} == set(Scope)


def test_before_the_first_policy_nothing_is_decided() -> None:
    with pytest.raises(PolicyBroken, match="no risk policy is in force on 2026-10-31"):
        shipped().in_force(datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC))


def test_the_newest_policy_that_has_begun_is_in_force(tmp_path: Path) -> None:
    (tmp_path / "2026-11-01.toml").write_text(SHIPPED)
    later = SHIPPED.replace("effective_from = 2026-11-01", "effective_from = 2026-12-01")
    (tmp_path / "2026-12-01.toml").write_text(later)
    policies = load(tmp_path)
    november, december = (
        policies.in_force(datetime(2026, 11, 30, 23, 59, tzinfo=UTC)),
        policies.in_force(datetime(2026, 12, 1, tzinfo=UTC)),
    )
    assert (november.version[:10], december.version[:10]) == ("2026-11-01", "2026-12-01")


def test_the_version_changes_with_any_byte_of_the_file() -> None:
    before = read("2026-11-01.toml", SHIPPED.encode())
    assert read("2026-11-01.toml", SHIPPED.encode()).version == before.version
    assert read("2026-11-01.toml", changed("20000.00", "20000.01")).version != before.version


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('minimum_eur = "0.50"', "minimum_eur = 0.50"),
        ('minimum_eur = "0.50"', 'minimum_eur = "0.505"'),
        ('minimum_eur = "0.50"', 'minimum_eur = "5000.01"'),
        ('maximum_eur = "20000.00"', 'maximum_eur = "-1.00"'),
        ('KWD = "0.34"', 'KWD = "0"'),
        ('KWD = "0.34"', 'XXX = "0.34"'),
        ('scope = "payer"', 'scope = "device"'),
        ("window_seconds = 600", "window_seconds = 0"),
        ("review_above_count = 8", "review_above_count = 13"),
        ('id = "payer-1h"', 'id = "merchant-1m"'),
        ('"CU"', '"Cuba"'),
        ('"*-*>CN-CNY"', '"CN"'),
        ("note = ", "surprise = 1\nnote = "),
        ("effective_from = 2026-11-01", "effective_from = 2026-11-02"),
        ("[countries]", "[countries"),
    ],
)
def test_a_policy_with_a_mistake_is_refused_whole(old: str, new: str) -> None:
    with pytest.raises(PolicyBroken):
        read("2026-11-01.toml", changed(old, new))


def test_a_rule_that_limits_nothing_is_a_mistake() -> None:
    without_limits = SHIPPED.replace("review_above_count = 8\ndecline_above_count = 12\n", "")
    with pytest.raises(PolicyBroken, match="limits nothing"):
        read("2026-11-01.toml", without_limits.encode())


def test_an_empty_directory_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(PolicyBroken):
        load(tmp_path)
    with pytest.raises(PolicyBroken):
        Policies(()).in_force(FIRST_DAY)


@pytest.mark.parametrize(
    ("corridor", "is_open"),
    [
        ("DE-EUR>CN-CNY", True),
        ("US-USD>KW-KWD", True),
        ("DE-EUR>CN-USD", False),
        ("RU-EUR>CN-CNY", False),
        ("DE-RUB>CN-CNY", False),
        ("DE-EUR>RU-RUB", False),
    ],
)
def test_corridors_open_by_pattern_and_disabled_beats_enabled(corridor: str, is_open: bool) -> None:
    assert shipped().in_force(FIRST_DAY).rules.corridors.is_open(corridor) is is_open


def test_a_value_is_rounded_up_so_rounding_never_passes_a_limit() -> None:
    valuation = Valuation({"JPY": Decimal("175.68")}, "test")
    assert valuation.value(Money(878_401, "JPY")) == Money(500_001, "EUR")
    assert valuation.value(Money(878_400, "JPY")) == Money(500_000, "EUR")


def test_planning_rates_fill_gaps_but_never_replace_a_published_rate() -> None:
    rule = shipped().in_force(FIRST_DAY).rules.amount
    known = Valuation({"AED": Decimal("4.0")}, "test").completed_by(rule)
    assert known.value(Money(400, "AED")) == Money(100, "EUR")
    assert known.value(Money(3_400, "KWD")) == Money(1_000, "EUR")
    assert known.value(Money(100, "CLF")) is None


def test_without_reference_rates_only_euros_and_planned_currencies_have_a_value() -> None:
    known = unvalued("ECB too old").completed_by(shipped().in_force(FIRST_DAY).rules.amount)
    assert known.value(Money(5, "EUR")) == Money(5, "EUR")
    assert known.value(Money(5, "USD")) is None
