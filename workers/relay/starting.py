"""Starting a workflow that may exist already: at most one ever runs under an id, and asking again is harmless."""

import contextlib
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.common import TypedSearchAttributes, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from workflows import names

START_TIMEOUT = timedelta(seconds=5)


async def start_once(
    client: Client,
    workflow: str,
    argument: Any,
    *,
    workflow_id: str,
    summary: str,
    details: str | None = None,
    search_attributes: TypedSearchAttributes | None = None,
) -> None:
    """Make sure the workflow was started. Raises `RPCError` when the server does not say so."""
    # Running already: the server returns it. Closed already: the error below. Both mean that it was started.
    with contextlib.suppress(WorkflowAlreadyStartedError):
        await client.start_workflow(
            workflow,
            argument,
            id=workflow_id,
            task_queue=names.CORE_QUEUE,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            search_attributes=search_attributes,
            static_summary=summary,
            static_details=details,
            rpc_timeout=START_TIMEOUT,
        )
