"""The retry schedule and what each answer means."""

from datetime import UTC, datetime, timedelta

import pytest

from corridor.notify.schedule import (
    DELAYS_SECONDS,
    PATIENCE,
    Judgement,
    Verdict,
    is_out_of_patience,
    judge,
    pause_seconds,
)

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)


def test_ten_attempts_span_three_days_and_a_bit() -> None:
    assert [pause_seconds(attempt, 500) for attempt in range(1, 11)] == [
        5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400, None,
    ]  # fmt: skip
    assert timedelta(hours=75.5) < timedelta(seconds=sum(DELAYS_SECONDS)) < timedelta(hours=75.7)


def test_jitter_stays_within_ten_percent_and_reaches_both_ends() -> None:
    for attempt, scheduled in enumerate(DELAYS_SECONDS, start=1):
        drawn = [pause_seconds(attempt, spread) for spread in range(0, 1001, 10)]
        assert all(pause is not None and scheduled * 0.9 - 1 <= pause <= scheduled * 1.1 for pause in drawn)
    assert (pause_seconds(2, 0), pause_seconds(2, 1000)) == (270, 330)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_delivered(status: int) -> None:
    assert judge(status, None, NOW).verdict is Verdict.DELIVERED


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 429, 500, 503])
def test_redirects_and_errors_are_failed_attempts(status: int) -> None:
    assert judge(status, None, NOW) == Judgement(Verdict.RETRY)


def test_410_disables() -> None:
    assert judge(410, "60", NOW) == Judgement(Verdict.DISABLE)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("999999999999999999999", 3600),
        ("Sun, 22 Nov 2026 08:10:00 GMT", 600),
        ("Sun, 22 Nov 2026 07:00:00 GMT", 0),
        ("-5", 0),
        ("soon", 0),
        ("Mon, 01 Jan 2027 00:00:00 +9999999999999999999", 0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 3600),
        ("", 0),
        ("٣", 0),
    ],
)
def test_retry_after_is_honoured_in_both_forms_and_capped(header: str, seconds: int) -> None:
    assert judge(503, header, NOW).retry_after_seconds == seconds
    assert judge(429, header, NOW).retry_after_seconds == seconds
    assert judge(500, header, NOW).retry_after_seconds == 0


def test_retry_after_lengthens_a_pause_but_never_shortens_it() -> None:
    assert pause_seconds(1, 500, 3600) == 3600
    assert pause_seconds(5, 500, 3600) == 18000
    assert pause_seconds(10, 500, 3600) is None


def test_patience_ends_five_days_after_the_first_failure() -> None:
    assert not is_out_of_patience(None, NOW)
    assert not is_out_of_patience(NOW - PATIENCE + timedelta(seconds=1), NOW)
    assert is_out_of_patience(NOW - PATIENCE, NOW)
