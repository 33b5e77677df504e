"""Claims about a changed retry policy on recorded tries and looks: what lies between a miss and a sight is not known."""

from typing import Any

import pytest

from corridor.domain.sending import SendPolicy
from workers.whatif import retry as whatif_retry
from workers.whatif.finding import Result
from workers.whatif.policy import RetrySection
from workers.whatif.retry import Carried, Look

KEY = "pay_1:sale:1"
POLICY = SendPolicy(
    maximum_attempts=4,
    initial_interval_seconds=1.0,
    maximum_interval_seconds=10.0,
    give_up_after_seconds=82_800,
    lookup_delays_seconds=(1, 5, 10),
    absence_is_proof=True,
)


def effect(
    sends: int = 1, outcome: str | None = "approved", *looks: tuple[int, str], **policy: Any
) -> Carried:
    seen = tuple(Look(offset_ms, found) for offset_ms, found in looks)
    return Carried(KEY, sends, outcome, seen, POLICY.model_copy(update=policy))


def result(carried: Carried, **section: Any) -> tuple[Result, str]:
    found = whatif_retry.judge([carried], RetrySection(**section), [KEY])
    return found.result, found.why


@pytest.mark.parametrize("attempts", [1, 2, 9])
def test_an_effect_decided_at_the_first_try_needs_no_other(attempts: int) -> None:
    assert result(effect(), maximum_attempts=attempts) == (Result.UNCHANGED, "")


def test_fewer_tries_than_it_took_are_not_observable() -> None:
    assert result(effect(3), maximum_attempts=2) == (Result.NOT_OBSERVABLE, whatif_retry.FEWER_SENDS)
    assert result(effect(3), maximum_attempts=3) == (Result.UNCHANGED, "")


def test_one_more_try_after_the_last_unproven_one_was_never_made() -> None:
    unproven = effect(4, "unknown", (1_000, "approved"))
    assert result(unproven, maximum_attempts=5) == (Result.NOT_OBSERVABLE, whatif_retry.MORE_SENDS)
    assert result(effect(4), maximum_attempts=5) == (Result.UNCHANGED, "")


FOUND_LATE = effect(1, "unknown", (1_000, "unknown"), (6_000, "approved"))


def test_a_look_after_the_first_sight_sees_it_too() -> None:
    assert result(FOUND_LATE, lookup_delays_seconds=(8,)) == (Result.UNCHANGED, "")
    assert result(FOUND_LATE, lookup_delays_seconds=(1, 7)) == (Result.UNCHANGED, "")


def test_a_look_between_the_last_miss_and_the_sight_is_not_observable() -> None:
    assert result(FOUND_LATE, lookup_delays_seconds=(1, 2, 20)) == (
        Result.NOT_OBSERVABLE,
        whatif_retry.BETWEEN_LOOKS,
    )


def test_a_schedule_that_ends_before_the_last_miss_takes_moved_money_for_never_sent() -> None:
    assert result(FOUND_LATE, lookup_delays_seconds=(1,)) == (Result.CHANGED, whatif_retry.FALSE_ABSENCE)
    asking = effect(1, None, (1_000, "unknown"), (6_000, "approved"), absence_is_proof=False)
    assert result(asking, lookup_delays_seconds=(1,)) == (Result.CHANGED, whatif_retry.NEVER_FOUND)


def test_an_absence_is_concluded_earlier_but_never_doubted_later() -> None:
    absent = effect(1, None, (1_000, "unknown"), (6_000, "unknown"), (16_000, "not_sent"))
    assert result(absent, lookup_delays_seconds=(1, 2)) == (Result.UNCHANGED, "")
    assert result(absent, lookup_delays_seconds=(30,)) == (Result.NOT_OBSERVABLE, whatif_retry.LATER_LOOKS)


def test_polls_of_a_challenged_buyer_are_no_look_ups() -> None:
    challenged = effect(1, "action_required", (20_000, "action_required"), (80_000, "approved"))
    assert result(challenged, lookup_delays_seconds=(1,)) == (Result.UNCHANGED, "")


def test_an_effect_whose_history_is_gone_is_not_observable() -> None:
    found = whatif_retry.judge([], RetrySection(maximum_attempts=2), [KEY])
    assert (found.result, found.why, found.detail) == (Result.NOT_OBSERVABLE, whatif_retry.NO_HISTORY, KEY)
