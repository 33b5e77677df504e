"""Adoption: payments pinned to a build that nobody runs any more go over to this one, if their history fits it.

A pinned payment waits for its own build for ever. Where that build is gone (one machine that was upgraded in place, a
cluster whose old workers were stopped too early) its history is replayed against the code at hand; what replays is
moved, and what does not is named and left alone: it needs its old build back.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from google.protobuf.field_mask_pb2 import FieldMask
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.deployment.v1 import WorkerDeploymentVersion
from temporalio.api.workflow.v1 import VersioningOverride, WorkflowExecutionOptions
from temporalio.api.workflowservice.v1 import UpdateWorkflowExecutionOptionsRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner

from corridor.runtime.histories import Run, from_server
from corridor.runtime.replay import Replayed, Verdict, replay
from corridor.runtime.side_by_side import side_by_side
from workers import wiring
from workers.builds import deployment
from workflows import names

JUDGED_AT_ONCE = 200
"""Histories held and judged before those that fit are moved; a command starts a process for each such group."""

PINNED_AT_ONCE = 16


@dataclass(frozen=True)
class Adopted:
    """Workflow ids that go on here, and the verdicts on those that do not fit."""

    moved: tuple[str, ...]
    misfits: tuple[Replayed, ...]


Judge = Callable[[AsyncIterable[Run]], Awaitable[Sequence[Replayed]]]
"""Replays histories against the code at hand."""


async def adopt(
    client: Client, from_build: str, to_build: str, judge: Judge, moved: list[str] | None = None
) -> Adopted:
    """Move what is pinned to one build to another, whose code `judge` knows. `from_build` must be stopped.

    Some at a time: what was moved before an interruption need not be judged again. `moved` is filled on the way, and is
    all that is left of a run that raises.
    """
    moved = [] if moved is None else moved
    misfits: list[Replayed] = []
    async for runs in _groups(from_server(client, deployment.pinned_to(from_build))):
        verdicts = await judge(runs)
        misfits += [it for it in verdicts if not fits(it)]
        await _pin_all(client, [it for it in verdicts if fits(it)], to_build, moved)
    return Adopted(tuple(moved), tuple(misfits))


async def _groups(runs: AsyncIterable[Run]) -> AsyncIterator[AsyncIterable[Run]]:
    group: list[Run] = []
    async for run in runs:
        group.append(run)
        if len(group) == JUDGED_AT_ONCE:
            yield _each(group)
            group = []
    if group:
        yield _each(group)


async def _each(runs: Sequence[Run]) -> AsyncIterator[Run]:
    for run in runs:
        yield run


def in_this_process(client: Client) -> Judge:
    """For workers, which have the code loaded. A command uses processes that it can end: corridor.runtime.replay_pool."""

    async def judge(runs: AsyncIterable[Run]) -> Sequence[Replayed]:
        runner = UnsandboxedWorkflowRunner()
        return await replay(runs, wiring.WORKFLOWS, client.data_converter, runner=runner)

    return judge


def fits(replayed: Replayed) -> bool:
    """True when this code may carry the workflow on; one that has not begun fits any code."""
    return replayed.verdict in (Verdict.FITS, Verdict.SKIPPED)


async def _pin_all(client: Client, fitting: Sequence[Replayed], build_id: str, moved: list[str]) -> None:
    """Adds the ids of those that had not ended meanwhile. A busy server takes a second for each, so not one by one."""

    async def pin(replayed: Replayed) -> None:
        if await _pin(client, build_id, replayed):
            moved.append(replayed.workflow_id)

    await side_by_side(fitting, pin, PINNED_AT_ONCE)


async def _pin(client: Client, build_id: str, replayed: Replayed) -> bool:
    """False when the workflow has ended meanwhile."""
    pinned = VersioningOverride.PinnedOverride(
        behavior=VersioningOverride.PinnedOverrideBehavior.PINNED_OVERRIDE_BEHAVIOR_PINNED,
        version=WorkerDeploymentVersion(deployment_name=names.DEPLOYMENT, build_id=build_id),
    )
    request = UpdateWorkflowExecutionOptionsRequest(
        namespace=client.namespace,
        workflow_execution=WorkflowExecution(workflow_id=replayed.workflow_id, run_id=replayed.run_id),
        workflow_execution_options=WorkflowExecutionOptions(
            versioning_override=VersioningOverride(pinned=pinned)
        ),
        update_mask=FieldMask(paths=["versioning_override"]),
        identity=client.identity,
    )
    try:
        await client.workflow_service.update_workflow_execution_options(request)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True
