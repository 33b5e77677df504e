"""The one map from our failures to Temporal's: what is final, what is tried again."""

import functools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.contracts import Step
from corridor.domain.failure import Refused
from corridor.domain.outcome import Frozen
from corridor.providers.port import LookUpFailed

Owner = TypeVar("Owner")
In = TypeVar("In", bound=Frozen)
Out = TypeVar("Out", bound=Frozen)

REPEAT = "REPEAT"
TOO_LATE = "TOO_LATE"
LONGEST_PAUSE_SECONDS = 30
"""Between two tries of one send. Inside it a workflow hears no cancel, and its rate lock runs out; longer waits are the
workflow's own, between its rounds."""
LOOK_UP_FAILED = "LOOK_UP_FAILED"
LONGEST_WAIT_SECONDS = 600
"""Between two tries of a local step, which may wait for a person: each costs six events of a history that can hold 51,200."""
OFTEN_SECONDS = 30
"""The workflow's own pause between tries, when its growth is over: see `workflows.steps.PATIENT`."""
TRIES_AT_FIRST = 36
"""Up to here a local step is tried at the workflow's pace: a quarter of an hour."""


def implements(
    step: Step[In, Out],
) -> Callable[[Callable[[Owner, In], Awaitable[Out]]], Callable[[Owner, In], Awaitable[Out]]]:
    """Register a method as the activity `step`, with its failures translated.

    `Refused` is final (non-retryable, typed by its code). A failed look-up says nothing and is tried again. All
    else, our own broken invariants included, is retried under the workflow's policy until a fix is deployed; a local
    step more and more seldom, so that its history outlasts the weeks this may take.
    """

    def bind(method: Callable[[Owner, In], Awaitable[Out]]) -> Callable[[Owner, In], Awaitable[Out]]:
        @functools.wraps(method)
        async def translated(self: Owner, argument: In) -> Out:
            try:
                return await method(self, argument)
            except Refused as refused:
                raise ApplicationError(
                    refused.detail,
                    type=refused.code,
                    non_retryable=True,
                    category=ApplicationErrorCategory.BENIGN,
                ) from None
            except LookUpFailed as failed:
                raise ApplicationError(
                    str(failed), type=LOOK_UP_FAILED, category=ApplicationErrorCategory.BENIGN
                ) from None
            except ApplicationError:
                raise
            except Exception as failed:
                pause = _pause_of_a_local_step()
                if pause is None:
                    raise
                raise ApplicationError(
                    str(failed), type=type(failed).__name__, next_retry_delay=pause
                ) from failed

        return activity.defn(name=step.name)(translated)

    return bind


def _pause_of_a_local_step() -> timedelta | None:
    """Until the next try, when this was one of many: about a tenth of the time it has failed for. None: the policy's."""
    if not activity.in_activity() or not (about := activity.info()).is_local:
        return None
    late = about.attempt - TRIES_AT_FIRST
    if late <= 0:
        return None
    return timedelta(seconds=min(OFTEN_SECONDS * 1.1 ** min(late, 100), LONGEST_WAIT_SECONDS))


def too_late(effect_key: str, seconds: float) -> ApplicationError:
    """An attempt that took so long before its call must not make it any more; another attempt may."""
    return ApplicationError(
        f"{effect_key} was not sent: {seconds:.1f} s had passed before the call, and what follows this attempt may count"
        " on nothing being sent by it any more. Nothing was changed; another attempt or a look-up follows.",
        type=TOO_LATE,
    )


class CaptureNotKnown(Exception):
    """A refund is only accepted of what is captured: the database is older than that, and the refund waits.

    The payment's workflow mostly knows in seconds; it may have to wait for a person, too.
    """

    def __init__(self, payment_id: str, status: str) -> None:
        super().__init__(
            f"{payment_id} is {status}, and it was captured when its refund was accepted: the database has come back"
            " older. Nothing was changed; this is tried again until the payment's own workflow has found its capture."
            " What else is missing `corridor restore-check` says."
        )


def repeat(detail: str, after_seconds: int | None) -> ApplicationError:
    """Ask Temporal to send the same bytes under the same key again; only where the contract makes that safe.

    A provider that asks for a longer pause than ours gets ours.
    """
    pause = None if after_seconds is None else timedelta(seconds=min(after_seconds, LONGEST_PAUSE_SECONDS))
    return ApplicationError(
        detail, type=REPEAT, category=ApplicationErrorCategory.BENIGN, next_retry_delay=pause
    )
