"""Which builds of our workers exist, which one new payments begin on, and what still needs an older one."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from temporalio.api.deployment.v1 import WorkerDeploymentInfo, WorkerDeploymentVersion
from temporalio.api.enums.v1 import RoutingConfigUpdateState, TaskQueueType, WorkerDeploymentVersionStatus
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentVersionRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from workflows import names

T = TypeVar("T")

REGISTERED_WITHIN_SECONDS = 60.0
"""A version exists for the server from its workers' first poll, some 200 ms after they began."""
SPREAD_WITHIN_SECONDS = 15.0
BUSY_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
POLL_SECONDS = 0.3
"""The server counts these questions, over all workers, against a limit of its own."""
GONE_AFTER_SECONDS = 90.0
"""A poll is held open for up to 70 s, so a worker that has not asked for this long is no more."""
NONE = ""
"""The build id of workers that are of no build."""
PINNED = 'ExecutionStatus = "Running" AND TemporalWorkflowVersioningBehavior = "Pinned"'
"""Visibility query: running workflows that only the workers of one build may carry on."""
_NOT_YET = frozenset({RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION})


class State(StrEnum):
    """Where a build stands; `draining` and `drained` are the server's own judgement, minutes late by design."""

    WAITING = "waiting"
    CURRENT = "current"
    RAMPING = "ramping"
    DRAINING = "draining"
    DRAINED = "drained"


_STATES = {
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_INACTIVE: State.WAITING,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_CREATED: State.WAITING,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_CURRENT: State.CURRENT,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_RAMPING: State.RAMPING,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINING: State.DRAINING,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINED: State.DRAINED,
}


@dataclass(frozen=True)
class Build:
    """One build: `pinned` counts the running workflows that only its own workers carry on."""

    build_id: str
    state: State
    pinned: int
    silent_seconds: float | None
    """Since when its workers have asked for nothing, while others did; None: not seen by the server lately."""

    @property
    def is_gone(self) -> bool:
        """True when no worker of this build runs any more."""
        return self.silent_seconds is None or self.silent_seconds > GONE_AFTER_SECONDS

    @property
    def is_stranded(self) -> bool:
        """True when workflows wait for a build that nobody runs."""
        return self.is_gone and self.pinned > 0

    @property
    def may_stop(self) -> bool:
        """True when nothing needs the workers of this build any more, nor will."""
        return self.state is State.DRAINED and self.pinned == 0


async def builds(client: Client) -> list[Build]:
    """Every build the server knows of, the current one first, then the newest."""
    found = await _described(client)
    if found is None:
        return []
    polled = await _polled(client)
    known = [
        Build(
            build_id=version.deployment_version.build_id,
            state=_STATES.get(version.status, State.WAITING),
            pinned=(await client.count_workflows(pinned_to(version.deployment_version.build_id))).count,
            silent_seconds=polled.get(version.deployment_version.build_id),
        )
        for version in sorted(
            found.version_summaries, key=lambda one: one.create_time.ToNanoseconds(), reverse=True
        )
    ]
    return sorted(known, key=lambda build: build.state is not State.CURRENT)


def pinned_to(build_id: str) -> str:
    """Visibility query: running workflows that only this build may carry on."""
    return f'{PINNED} AND TemporalWorkerDeploymentVersion = "{names.DEPLOYMENT}:{build_id}"'


FOLLOWING = (
    'ExecutionStatus = "Running" AND '
    '(TemporalWorkflowVersioningBehavior IS NULL OR TemporalWorkflowVersioningBehavior != "Pinned")'
)
"""Visibility query: running workflows that go over to whichever build becomes current."""


async def current(client: Client) -> str | None:
    """The build that new payments begin on; None until one was made current, and nothing is dispatched until then."""
    found = await _described(client)
    if found is None:
        return None
    return found.routing_config.current_deployment_version.build_id or None


async def registered(client: Client, build_id: str, queues: Iterable[str]) -> None:
    """Return when the server knows workers of this build on every one of the queues. Raises `TimeoutError`."""
    expected = set(queues)
    async with asyncio.timeout(REGISTERED_WITHIN_SECONDS):
        # What is waited for happens in the server, which offers nothing to wait on.
        while not expected <= await _queues(client, build_id):  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)


async def make_current(client: Client, build_id: str, *, whatever_is_missing: bool = False) -> bool:
    """Let new payments, and whatever is not pinned, go to this build; true once every queue has heard of it.

    Until then a queue may still send a new payment to the build that was current before. That takes a second or two;
    rarely the server needs longer, and goes on by itself. Harmless when the build is current already.

    The server refuses (`RPCError`, FAILED_PRECONDITION) a build without workers on a queue that the current build
    serves and that is in use, unless told that this is meant.
    """
    wanted = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace,
        deployment_name=names.DEPLOYMENT,
        build_id=build_id,
        identity=client.identity,
        ignore_missing_task_queues=whatever_is_missing,
    )
    await _when_it_has_time(lambda: client.workflow_service.set_worker_deployment_current_version(wanted))
    for _ in range(round(SPREAD_WITHIN_SECONDS / POLL_SECONDS)):
        if not await _is_spreading(client):
            return True
        await asyncio.sleep(POLL_SECONDS)
    return False


async def _is_spreading(client: Client) -> bool:
    found = await _described(client)
    state = RoutingConfigUpdateState.ROUTING_CONFIG_UPDATE_STATE_IN_PROGRESS
    return found is not None and found.routing_config_update_state == state


async def _described(client: Client) -> WorkerDeploymentInfo | None:
    request = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=names.DEPLOYMENT)
    try:
        answer = await _when_it_has_time(lambda: client.workflow_service.describe_worker_deployment(request))
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    return answer.worker_deployment_info


async def _queues(client: Client, build_id: str) -> set[str]:
    version = WorkerDeploymentVersion(deployment_name=names.DEPLOYMENT, build_id=build_id)
    request = DescribeWorkerDeploymentVersionRequest(namespace=client.namespace, deployment_version=version)
    try:
        answer = await _when_it_has_time(
            lambda: client.workflow_service.describe_worker_deployment_version(request)
        )
    except RPCError as error:
        if error.status in _NOT_YET:
            return set()
        raise
    return {queue.name for queue in answer.worker_deployment_version_info.task_queue_infos}


async def _when_it_has_time(ask: Callable[[], Awaitable[T]]) -> T:
    """The server limits questions to and changes of a deployment, over all its workers; it says so, and is asked again."""
    for seconds in BUSY_PAUSES_SECONDS:
        try:
            return await ask()
        except RPCError as error:
            if "too many requests" not in error.message.lower():
                raise
        await asyncio.sleep(seconds)
    return await ask()


async def _polled(client: Client) -> dict[str, float]:
    """By build, how many seconds its last poll for workflow tasks is behind the newest of any: no clock to disagree."""
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=names.CORE_QUEUE),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    answer = await client.workflow_service.describe_task_queue(request)
    last: dict[str, float] = {}
    for poller in answer.pollers:
        build_id = poller.deployment_options.build_id
        last[build_id] = max(poller.last_access_time.ToMilliseconds() / 1000, last.get(build_id, 0.0))
    newest = max(last.values(), default=0.0)
    return {build_id: newest - seen for build_id, seen in last.items()}
