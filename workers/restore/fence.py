"""Who still works on this installation: workers that ask Temporal for work, and the API.

A repair beside them would race with them: a worker writes steps that the repair has just found missing, the API
accepts under a key that the repair is about to claim. So the command looks before it writes.
"""

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta

import httpx
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from workflows import names

POLLS_WITHIN = timedelta(seconds=75)
"""A poll is answered, empty too, after a minute, and the next one follows. The server lists it for five minutes, so
who asked longer ago than this has stopped, and who was killed just now still looks alive."""
ANSWERS_WITHIN_SECONDS = 2.0
_KINDS = (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)


class StillWorking(Exception):
    """The text names who."""


async def require_nobody(client: Client, providers: Iterable[str], api_address: str, now: datetime) -> None:
    """Raises `StillWorking`, `RPCError`. Of APIs only the one that these settings lead to is asked."""
    found = sorted({who async for who in _polling(client, providers, now - POLLS_WITHIN)})
    if await _answers(api_address):
        found.append(f"the API at {api_address}")
    if found:
        raise StillWorking(", ".join(found))


async def _polling(client: Client, providers: Iterable[str], since: datetime) -> AsyncIterator[str]:
    for queue in names.queues(providers):
        for kind in _KINDS:
            request = DescribeTaskQueueRequest(
                namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
            )
            answer = await client.workflow_service.describe_task_queue(request)
            for poller in answer.pollers:
                if _last_poll(poller) > since:
                    yield poller.identity


def _last_poll(poller: PollerInfo) -> datetime:
    return poller.last_access_time.ToDatetime(tzinfo=UTC)


async def _answers(address: str) -> bool:
    """Any answer is somebody's."""
    try:
        async with httpx.AsyncClient(timeout=ANSWERS_WITHIN_SECONDS, trust_env=False) as http:
            await http.get(f"{address}/livez")
    except httpx.TimeoutException:
        return True
    except httpx.TransportError:
        return False
    return True
