"""A step that fails for weeks: a local one is tried more and more seldom, for each try costs events of its history."""

from dataclasses import replace
from datetime import timedelta

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.contracts import Step
from activities.errors import LONGEST_WAIT_SECONDS, OFTEN_SECONDS, TRIES_AT_FIRST, implements
from corridor.domain.failure import Refusal, Refused
from corridor.domain.outcome import Frozen
from workflows.steps import PATIENT

EVENTS_OF_A_TRY = 6
EVENTS_OF_A_HISTORY = 51_200
"""Temporal ends a workflow whose history grows beyond it (`limit.historyCount.error`)."""


class Nothing(Frozen):
    """What the step takes and gives."""


STEP = Step("test.patience.v1", Nothing, Nothing)


class Steps:
    """One step that fails as it is told."""

    def __init__(self, failure: Exception) -> None:
        self._failure = failure

    @implements(STEP)
    async def fails(self, _: Nothing) -> Nothing:
        raise self._failure


async def tried(failure: Exception, attempt: int, *, is_local: bool = True) -> BaseException:
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, attempt=attempt, is_local=is_local)
    with pytest.raises(Exception) as raised:
        await environment.run(Steps(failure).fails, Nothing())
    return raised.value


async def pause(attempt: int) -> timedelta | None:
    raised = await tried(OSError("no database"), attempt)
    return raised.next_retry_delay if isinstance(raised, ApplicationError) else None


async def test_a_local_step_keeps_to_the_workflows_pace_at_first() -> None:
    assert await pause(1) is await pause(TRIES_AT_FIRST) is None


async def test_then_it_waits_for_a_tenth_of_the_time_that_it_has_failed_for() -> None:
    longest = PATIENT.maximum_interval
    assert longest == timedelta(seconds=OFTEN_SECONDS)
    failed_for = longest * TRIES_AT_FIRST
    for attempt in range(TRIES_AT_FIRST + 1, TRIES_AT_FIRST + 30):
        waits = await pause(attempt)
        assert waits is not None
        assert longest < waits < max(failed_for / 8, longest * 1.2)
        failed_for += waits


async def test_a_history_holds_the_tries_of_a_month() -> None:
    last = await pause(10_000)
    assert last == timedelta(seconds=LONGEST_WAIT_SECONDS)
    assert EVENTS_OF_A_TRY * (timedelta(days=30) / last) < EVENTS_OF_A_HISTORY


async def test_what_failed_is_told_by_its_name_and_cause() -> None:
    failure = OSError("no database")
    raised = await tried(failure, TRIES_AT_FIRST + 1)
    assert isinstance(raised, ApplicationError)
    assert (raised.type, raised.message, raised.non_retryable) == ("OSError", "no database", False)
    assert raised.__cause__ is failure


async def test_a_regular_step_costs_no_events_and_stays_with_its_policy() -> None:
    failure = OSError("no database")
    assert await tried(failure, 10_000, is_local=False) is failure


async def test_what_says_itself_how_to_go_on_is_left_alone() -> None:
    own = ApplicationError("later", next_retry_delay=timedelta(seconds=7))
    assert await tried(own, 10_000) is own
    refused = await tried(Refused(Refusal.NOT_FOUND, "no"), 10_000)
    assert isinstance(refused, ApplicationError)
    assert refused.non_retryable
