"""The Temporal workers of one process: one for the core queue, one per provider, tuned for the waiting buyer."""

import contextlib
import os
import socket
from collections.abc import AsyncIterator
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import PollerBehaviorAutoscaling, UnsandboxedWorkflowRunner, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from workers import wiring
from workers.wiring import Wiring
from workflows import names

GRACE = timedelta(seconds=20)
"""Longer than the slowest provider call: a worker that is told to stop finishes what it sent."""
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


def runner() -> SandboxedWorkflowRunner:
    """The sandboxed runner of tests and of the replay gate, where a clock or a file read in workflow code is an error.

    Processes that serve payments run the same code without it: it doubles what a workflow task costs, and what it
    would find is found before a deploy.
    """
    return SandboxedWorkflowRunner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH)
    )


@contextlib.asynccontextmanager
async def running(
    wired: Wiring, client: Client, grace: timedelta, sandboxed: bool = False
) -> AsyncIterator[None]:
    """Workers of every queue, polling until the block is left."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(core_worker(wired, client, grace, sandboxed=sandboxed))
        for provider in wired.edge.providers.names:
            await stack.enter_async_context(provider_worker(wired, client, provider, grace))
        yield


def core_worker(
    wired: Wiring,
    client: Client,
    grace: timedelta = GRACE,
    cached_workflows: int = 2000,
    sandboxed: bool = True,
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
        workflow_runner=runner() if sandboxed else UnsandboxedWorkflowRunner(),
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(),
        max_cached_workflows=cached_workflows,
        max_concurrent_workflow_tasks=50,
        max_concurrent_local_activities=50,
        max_concurrent_activities=50,
        graceful_shutdown_timeout=grace,
    )


def provider_worker(wired: Wiring, client: Client, provider: str, grace: timedelta = GRACE) -> Worker:
    """Calls to one provider; a slow provider fills its own slots and nobody else's."""
    return Worker(
        client,
        task_queue=names.provider_queue(provider),
        activities=wiring.provider_activities(wired),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(),
        max_concurrent_activities=64,
        graceful_shutdown_timeout=grace,
    )
