"""Where histories come from: a Temporal server, by query or by id, and directories of exported JSON."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecution, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode

from corridor.runtime.patience import while_away

FETCHED_AT_ONCE = 8
"""Fetching waits for the server, whoever reads the histories waits for the processor."""

_ENDS = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
    }
)


@dataclass(frozen=True)
class Run:
    """One run's history. `run_id` is the run's own: a reset run's first event names the run it was reset from."""

    history: WorkflowHistory
    run_id: str
    is_running: bool

    @property
    def workflow_id(self) -> str:
        return self.history.workflow_id


@dataclass(frozen=True)
class Unopened:
    """An archived run whose file is sealed with a key that is not at hand: that there was one is all that is known."""

    workflow_id: str
    run_id: str
    key: str

    def __str__(self) -> str:
        return f"{self.workflow_id} is archived under the key {self.key!r}, which is not at hand"


def query_since(query: str, since: datetime | None) -> str:
    """A visibility query for the runs that something happened to since then: running, or closed later."""
    if since is None:
        return query
    recent = f'(ExecutionStatus = "Running" OR CloseTime >= "{since.astimezone(UTC).isoformat()}")'
    return f"({query}) AND {recent}" if query else recent


async def from_server(client: Client, query: str = "") -> AsyncIterator[Run]:
    """Every run the visibility query selects, several fetched at once; one that expires meanwhile is left out."""
    waiting: deque[asyncio.Task[Run | None]] = deque()
    try:
        async for found in listed(client, query):
            waiting.append(asyncio.create_task(fetch(client, found.id, found.run_id)))
            if len(waiting) >= FETCHED_AT_ONCE and (run := await waiting.popleft()) is not None:
                yield run
        while waiting:
            if (run := await waiting.popleft()) is not None:
                yield run
    finally:
        for task in waiting:
            task.cancel()


async def listed(client: Client, query: str) -> AsyncIterator[WorkflowExecution]:
    """What the visibility query selects. A server that goes away between two pages goes on with the next one."""
    pages = client.list_workflows(query)
    while pages.current_page is None or pages.next_page_token is not None:
        await while_away(pages.fetch_next_page)
        for execution in pages.current_page or ():
            yield execution


async def of_workflows(client: Client, workflow_ids: Iterable[str]) -> AsyncIterator[Run]:
    """The newest run of each of these; asked by id, for the list of runs lags behind a little."""
    for workflow_id in workflow_ids:
        run = await fetch(client, workflow_id, None)
        if run is not None:
            yield run


async def fetch(client: Client, workflow_id: str, run_id: str | None) -> Run | None:
    """None: retention has removed the run, or there never was one."""
    try:
        run_id = run_id or (await while_away(client.get_workflow_handle(workflow_id).describe)).run_id
        history = await while_away(client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return None
        raise
    return Run(history, run_id, not is_closed(history))


def is_closed(history: WorkflowHistory) -> bool:
    """Whether the run has ended, by its last event."""
    return history.events[-1].event_type in _ENDS


async def from_directory(directory: Path) -> AsyncIterator[Run]:
    """Histories in files as `temporal workflow show -o json` writes them; the file's name stands for the id."""
    # Blocking file access is fine: nothing else runs on this loop while files are read.
    for path in sorted(directory.rglob("*.json")):  # noqa: ASYNC240
        if path.name.endswith(".expected.json"):
            continue
        history = WorkflowHistory.from_json(path.stem, path.read_text("utf-8"))
        yield Run(history, history.run_id, not is_closed(history))
