"""The yardstick: a bare workflow of a payment's durable shape, whose activities do nothing.

The shape: update-with-start answered early, one local activity, one activity on a second queue, a wait for a signal,
one local activity, completion. It carries one short string, sets no search attributes, no summaries and no timer, and
its worker is tuned as ours (`workers/fleet.py`): what is left is what Temporal itself costs on this machine.
"""

from collections.abc import Sequence
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import PollerBehaviorAutoscaling, Worker

NAME = "Bare"
QUEUE = "bare"
FAR_QUEUE = "bare-provider"
TIMEOUT = timedelta(seconds=20)


@activity.defn
async def nothing(subject: str) -> str:
    return subject


@workflow.defn(name=NAME)
class BareWorkflow:
    """Answers after its second step, ends after its third."""

    def __init__(self) -> None:
        self._answered = False
        self._told = False

    @workflow.run
    async def run(self, subject: str) -> str:
        await workflow.execute_local_activity(nothing, subject, start_to_close_timeout=TIMEOUT)
        await workflow.execute_activity(
            nothing, subject, task_queue=FAR_QUEUE, start_to_close_timeout=TIMEOUT
        )
        self._answered = True
        await workflow.wait_condition(lambda: self._told)
        await workflow.execute_local_activity(nothing, subject, start_to_close_timeout=TIMEOUT)
        return subject

    @workflow.update
    async def accept(self) -> str:
        await workflow.wait_condition(lambda: self._answered)
        return "captured"

    @workflow.signal
    def tell(self, _fact: str) -> None:
        self._told = True


def workers(client: Client) -> Sequence[Worker]:
    """One worker per queue in one process, with the options of `workers/fleet.py`."""
    core = Worker(
        client,
        task_queue=QUEUE,
        workflows=[BareWorkflow],
        activities=[nothing],
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(),
        max_cached_workflows=2000,
        max_concurrent_workflow_tasks=50,
        max_concurrent_local_activities=50,
        max_concurrent_activities=50,
    )
    far = Worker(
        client,
        task_queue=FAR_QUEUE,
        activities=[nothing],
        activity_task_poller_behavior=PollerBehaviorAutoscaling(),
        max_concurrent_activities=64,
    )
    return core, far
