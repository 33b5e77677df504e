"""Claims about the file of a what-if: sections are optional, parts lie over what was in force, mistakes are refused."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.cli.whatif import moment
from corridor.fx.counterfactual import Terms
from corridor.risk.policy import PolicyBroken
from workers.whatif import policy as whatif_policy
from workers.whatif.policy import known

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
VERSION, (BASE, _) = next(iter(known().items()))


def written(directory: Path, text: str) -> Path:
    path = directory / "change.toml"
    path.write_text(text, "utf-8")
    return path


def test_limits_replace_only_what_they_name(tmp_path: Path) -> None:
    text = '[limits]\nmaximum_eur = "9000.00"\n[limits.velocity.instrument-10m]\ndecline_above_count = 9\n'
    change = whatif_policy.read(written(tmp_path, text))
    rules = change.risk_over(VERSION).rules
    assert str(rules.amount.maximum) == "9000.00 EUR"
    assert rules.amount.minimum == BASE.rules.amount.minimum
    first, *others = rules.velocity
    assert (first.decline_above_count, first.review_above_count, first.window_seconds) == (9, 8, 600)
    assert tuple(others) == BASE.rules.velocity[1:]
    assert (rules.countries, rules.corridors) == (BASE.rules.countries, BASE.rules.corridors)


def test_a_shipped_file_is_a_whole_policy(tmp_path: Path) -> None:
    shipped = Path("corridor/risk/policies/2026-11-01.toml").read_text("utf-8")
    change = whatif_policy.read(written(tmp_path, shipped))
    assert change.sections == ("risk",)
    assert change.risk_over(VERSION).rules == BASE.rules


def test_all_sections_live_in_one_document(tmp_path: Path) -> None:
    text = (
        '[risk.countries]\nblocked = ["DE"]\n[fx]\nmarkup_bps = 25\nmaximum_spread_bps = 30\nslippage_max_bps = 10\n'
        "[retry]\nmaximum_attempts = 2\nlookup_delays_seconds = [1, 10]\n"
    )
    change = whatif_policy.read(written(tmp_path, text))
    assert change.sections == ("risk", "fx", "retry")
    assert change.document.fx is not None
    assert change.document.fx.terms == Terms(markup_bps=25, maximum_spread_bps=30)
    assert change.risk_over(VERSION).rules.countries.review == ("MM",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "markup_bps = 5\n",
        "[fx]\nmarkup = 5\n",
        "[fx]\nmarkup_bps = -5\n",
        "[retry]\nmaximum_attempts = 0\n",
        '[limits]\nmaximum_eur = "1.00"\n',
        "[limits]\nmaximum_eur = 9000.0\n",
        "[limits.velocity.no-such-rule]\ndecline_above_count = 9\n",
        "[risk\n",
    ],
)
def test_a_file_that_means_nothing_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(PolicyBroken):
        whatif_policy.read(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90m", NOW - timedelta(minutes=90)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T08:00+02:00", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ],
)
def test_since_is_a_time_or_an_age(text: str, expected: datetime) -> None:
    assert moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["yesterday", "7w", "", "-1d"])
def test_a_time_nobody_can_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither a time"):
        moment(text, NOW)
