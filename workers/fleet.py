"""The Temporal workers of one process: core, settlement, webhooks, one per provider; tuned for the waiting buyer."""

import asyncio
import contextlib
import dataclasses
import os
import socket
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import (
    PollerBehaviorAutoscaling,
    UnsandboxedWorkflowRunner,
    Worker,
    WorkerDeploymentConfig,
    WorkflowInstance,
    WorkflowInstanceDetails,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from workers import wiring
from workers.wiring import Wiring
from workflows import names
from workflows.settlement import SettlementWorkflow

GRACE = timedelta(seconds=20)
"""Longer than the slowest provider call: a worker that is told to stop finishes what it sent."""
STICKY = timedelta(seconds=4)
"""How long a payment waits for the worker that remembers it. Of one that was killed nobody knows that it is no more, and
Temporal's default lets each of its buyers wait ten seconds; a busy one that is passed over costs a replay of its history.
"""
CACHED_WORKFLOWS = 2000
CORE_SLOTS, SETTLEMENT_SLOTS, WEBHOOK_SLOTS = 50, 16, 100
PASSED_THROUGH = (
    "corridor",
    "activities",
    "workflows",
    "pydantic",
    "pydantic_core",
    "iso4217",
    "annotated_types",
)
"""Deterministic or import-only modules the sandbox need not load again for every workflow."""


def identity() -> str:
    """How this process shows itself in the Temporal UI."""
    return f"corridor-worker {os.getpid()}@{socket.gethostname()}"


class Unversioned(UnsandboxedWorkflowRunner):
    """Runs workflows that say how they are versioned on a worker that is not.

    The server refuses every task whose worker names a behavior without naming a build ("versioning behavior cannot
    be specified without deployment options"), so the behavior is left out there.
    """

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """The SDK's own instance, for a definition without a behavior."""
        silent = dataclasses.replace(det.defn, versioning_behavior=VersioningBehavior.UNSPECIFIED)
        return super().create_instance(dataclasses.replace(det, defn=silent))


def runner(versioned: bool = False) -> SandboxedWorkflowRunner:
    """The sandboxed runner of tests and of the replay gate, where a clock or a file read in workflow code is an error.

    Processes that serve payments run the same code without it: it doubles what a workflow task costs, and what it
    would find is found before a deploy.
    """
    return SandboxedWorkflowRunner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH),
        runner_class=UnsandboxedWorkflowRunner if versioned else Unversioned,
    )


def _unsandboxed(versioned: bool) -> UnsandboxedWorkflowRunner:
    return UnsandboxedWorkflowRunner() if versioned else Unversioned()


def of_build(build_id: str) -> WorkerDeploymentConfig:
    """Makes a worker one of this build, which serves what is pinned to it; each workflow type says if it is."""
    version = WorkerDeploymentVersion(deployment_name=names.DEPLOYMENT, build_id=build_id)
    return WorkerDeploymentConfig(version=version, use_worker_versioning=True)


@contextlib.asynccontextmanager
async def running(
    wired: Wiring,
    client: Client,
    grace: timedelta,
    sandboxed: bool = False,
    cached_workflows: int = CACHED_WORKFLOWS,
    build: WorkerDeploymentConfig | None = None,
    stop: asyncio.Event | None = None,
) -> AsyncIterator[None]:
    """Workers of every queue; without a `build` they take any workflow.

    They poll until `stop` is set or the block is left; then all have the same `grace` at the same time.
    """
    workers = [
        core_worker(wired, client, grace, sandboxed, cached_workflows, build),
        settlement_worker(wired, client, grace, sandboxed, cached_workflows, build),
        webhook_worker(wired, client, grace, build),
        *(provider_worker(wired, client, provider, grace, build) for provider in wired.edge.providers.names),
    ]
    async with contextlib.AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(worker)
        told = asyncio.create_task(_shut_down_after(stop or asyncio.Event(), workers))
        try:
            yield
        finally:
            told.cancel()
            await _shut_down(workers)


async def _shut_down_after(stop: asyncio.Event, workers: Sequence[Worker]) -> None:
    await stop.wait()
    await _shut_down(workers)


async def _shut_down(workers: Sequence[Worker]) -> None:
    """May be said twice; returns when each of them has ended."""
    await asyncio.gather(*(worker.shutdown() for worker in workers))


def core_worker(
    wired: Wiring,
    client: Client,
    grace: timedelta,
    sandboxed: bool,
    cached_workflows: int,
    build: WorkerDeploymentConfig | None,
) -> Worker:
    """Workflows and our own steps. With 0 `cached_workflows` every task replays its history, which tests want.

    Autoscaling pollers: with the default, one poll in five serves new workflows, so under load a new payment waits
    behind the continuations of older ones (p99 3.2 s against 1.0 s with 32 in flight on two cores).
    """
    return Worker(
        client,
        task_queue=names.CORE_QUEUE,
        workflows=wiring.WORKFLOWS,
        activities=wiring.core_activities(wired, client),
        workflow_runner=(runner if sandboxed else _unsandboxed)(build is not None),
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(),
        max_cached_workflows=cached_workflows,
        sticky_queue_schedule_to_start_timeout=STICKY,
        max_concurrent_workflow_tasks=CORE_SLOTS,
        max_concurrent_local_activities=50,
        max_concurrent_activities=CORE_SLOTS,
        graceful_shutdown_timeout=grace,
        deployment_config=build,
    )


def settlement_worker(
    wired: Wiring,
    client: Client,
    grace: timedelta,
    sandboxed: bool,
    cached_workflows: int,
    build: WorkerDeploymentConfig | None,
) -> Worker:
    """Settlement imports with their steps: a backlog of payments is what waits for them, not what they wait behind."""
    return Worker(
        client,
        task_queue=names.SETTLEMENT_QUEUE,
        workflows=[SettlementWorkflow],
        activities=wiring.settlement_activities(wired, client),
        workflow_runner=(runner if sandboxed else _unsandboxed)(build is not None),
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(),
        max_cached_workflows=cached_workflows,
        sticky_queue_schedule_to_start_timeout=STICKY,
        max_concurrent_workflow_tasks=SETTLEMENT_SLOTS,
        max_concurrent_activities=SETTLEMENT_SLOTS,
        graceful_shutdown_timeout=grace,
        deployment_config=build,
    )


def webhook_worker(
    wired: Wiring, client: Client, grace: timedelta, build: WorkerDeploymentConfig | None
) -> Worker:
    """Calls to merchants' endpoints, each of which may take its whole time limit to say nothing."""
    return Worker(
        client,
        task_queue=names.WEBHOOK_QUEUE,
        activities=wiring.webhook_activities(wired),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(),
        max_concurrent_activities=WEBHOOK_SLOTS,
        graceful_shutdown_timeout=grace,
        deployment_config=build,
    )


def provider_worker(
    wired: Wiring, client: Client, provider: str, grace: timedelta, build: WorkerDeploymentConfig | None
) -> Worker:
    """Calls to one provider; a slow provider fills its own slots and nobody else's.

    Of the same build as the workflows, so a pinned payment is served by its own build's activities too.
    """
    return Worker(
        client,
        task_queue=names.provider_queue(provider),
        activities=wiring.provider_activities(wired),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(),
        max_concurrent_activities=64,
        graceful_shutdown_timeout=grace,
        deployment_config=build,
    )
