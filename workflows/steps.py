"""How workflows call activities: local for our own short steps, the provider's queue for calls that move money."""

from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy

from activities.contracts import EffectPlan, Step
from corridor.domain.outcome import Frozen
from workflows.names import provider_queue

In = TypeVar("In", bound=Frozen)
Out = TypeVar("Out", bound=Frozen)

PATIENT = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=30),
)
"""For steps that are safe to run again: a database that is away, or a bug of ours, parks the payment here."""

LOCAL_TIMEOUT = timedelta(seconds=10)
LOOK_UP_TIMEOUT = timedelta(seconds=30)
RECORDING_SECONDS = 7
"""What an activity has left, after the adapter's own deadline, to write the outcome down."""


async def local(step: Step[In, Out], argument: In, summary: str) -> Out:
    """Run a step of our own in this worker: one database transaction, repeated until it succeeds."""
    result: Out = await workflow.execute_local_activity(
        step.name,
        argument,
        result_type=step.gives,
        start_to_close_timeout=LOCAL_TIMEOUT,
        local_retry_threshold=timedelta(seconds=20),
        retry_policy=PATIENT,
        summary=summary,
    )
    return result


async def regular(
    step: Step[In, Out],
    argument: In,
    summary: str,
    limit: timedelta,
    heartbeat: timedelta | None = None,
    gives_up_after: timedelta | None = None,
    queue: str | None = None,
    retry: RetryPolicy = PATIENT,
) -> Out:
    """Run a longer step of our own, on its workflow's queue by default; with `heartbeat` a lost worker is noticed before `limit`.

    Repeated until it succeeds, or `gives_up_after` is over. Raises `ActivityError` then, and for a refusal.
    """
    result: Out = await workflow.execute_activity(
        step.name,
        argument,
        result_type=step.gives,
        task_queue=queue,
        start_to_close_timeout=limit,
        schedule_to_close_timeout=gives_up_after,
        heartbeat_timeout=heartbeat,
        retry_policy=retry,
        summary=summary,
    )
    return result


async def send(step: Step[In, Out], argument: In, plan: EffectPlan, summary: str) -> Out:
    """Make a call that moves money, as often as the adapter's idempotency contract allows and no more.

    The adapter's own deadline ends before the activity's, so no timed-out attempt can still send.
    """
    policy = plan.policy
    result: Out = await workflow.execute_activity(
        step.name,
        argument,
        result_type=step.gives,
        task_queue=provider_queue(plan.provider),
        start_to_close_timeout=timedelta(seconds=plan.call_timeout_seconds + RECORDING_SECONDS),
        retry_policy=RetryPolicy(
            initial_interval=timedelta(seconds=policy.initial_interval_seconds),
            maximum_interval=timedelta(seconds=policy.maximum_interval_seconds),
            maximum_attempts=policy.maximum_attempts,
        ),
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        summary=summary,
    )
    return result


async def look(step: Step[In, Out], argument: In, plan: EffectPlan, summary: str) -> Out:
    """Ask the provider about an effect; a look-up that fails says nothing, so it is repeated patiently."""
    result: Out = await workflow.execute_activity(
        step.name,
        argument,
        result_type=step.gives,
        task_queue=provider_queue(plan.provider),
        start_to_close_timeout=LOOK_UP_TIMEOUT,
        retry_policy=RetryPolicy(
            initial_interval=timedelta(seconds=1),
            backoff_coefficient=2.0,
            maximum_interval=timedelta(minutes=5),
        ),
        summary=summary,
    )
    return result
