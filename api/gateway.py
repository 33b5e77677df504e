"""The only file that talks to the Temporal client: starts workflows, sends updates, says when there is no answer.

Nothing here guesses. No answer within the deadline is `None` (or `Accepted`): the database tells the caller where
things stand, and whatever was accepted is carried on without this process.
"""

import asyncio
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import structlog
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
    WorkflowUpdateStage,
)
from temporalio.common import (
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from corridor.domain.failure import Refusal, Refused
from corridor.domain.outcome import Frozen
from workflows import names, starts
from workflows.messages import PaymentAnswer, RefundAnswer

HEALTHY_FOR_SECONDS = 2.0
"""How long one success vouches for the front end; a payment accepted in this gap is started by the relay."""
UNHEALTHY_FOR_SECONDS = 0.5
HEALTH_TIMEOUT = timedelta(seconds=1)

T = TypeVar("T")
Start = WithStartWorkflowOperation[Any, Any]

_ONCE: Mapping[str, Any] = {
    "task_queue": names.CORE_QUEUE,
    "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
    "id_reuse_policy": WorkflowIDReusePolicy.REJECT_DUPLICATE,
}
"""However often a start is sent, there is one workflow of an id, for ever."""

_OUT_OF_REACH = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.ABORTED,
        # What the client library says of a connection that broke under the call ("transport error").
        RPCStatusCode.UNKNOWN,
        # A workflow whose task fails takes no update until a fixed build is deployed; it is not lost.
        RPCStatusCode.FAILED_PRECONDITION,
    }
)


log = structlog.get_logger(__name__)


class TemporalUnavailable(Exception):
    """The front end does not answer. Unless the caller says otherwise, it is open whether the call arrived."""


class _Leaving(Exception):
    """This process ends before the call did."""


class WorkflowGone(Exception):
    """The workflow is closed or does not exist: whatever it stood for is decided, the database knows how."""


@dataclass(frozen=True)
class Done:
    """An update was carried out, or refused with a stable code (nothing was changed then)."""

    refused: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Accepted:
    """The update is in the workflow's history and will be carried out; its result is not here yet."""


class Gateway(Protocol):
    """What the routes ask of the durable side."""

    async def require_available(self) -> None:
        """Raises `TemporalUnavailable` when nothing should be accepted now."""
        ...

    async def start_payment(self, row: starts.Row, deadline_seconds: float) -> PaymentAnswer | None:
        """Start the payment's workflow, or join it, and wait for its early answer; None without one in time.

        One that ran before and that Temporal does not know was lost with its store: it is not begun again here, where
        nobody looks at what it has sent, but by `corridor resume`.
        """
        ...

    async def start_refund(self, row: starts.Row, deadline_seconds: float) -> RefundAnswer | None:
        """The same for a refund."""
        ...

    async def command(
        self, workflow_id: str, update: str, update_id: str, argument: Frozen, deadline_seconds: float
    ) -> Done | Accepted:
        """Send an update. Raises `Refused` (a validator's no), `WorkflowGone`, `TemporalUnavailable`."""
        ...


class TemporalGateway:
    """`Gateway` on a Temporal client."""

    def __init__(self, client: Client, windows: starts.Windows = starts.DEFAULT_WINDOWS) -> None:
        self._client = client
        self._windows = windows
        self._checked_at = float("-inf")
        self._was_healthy = False
        self._checking = asyncio.Lock()
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """The process is about to end: nobody waits for a workflow any longer, each gets the answer there is (202)."""
        self._leaving.set()

    async def require_available(self) -> None:
        """One check at a time, shared by all who wait for it; every successful call counts as one."""
        async with self._checking:
            age = time.monotonic() - self._checked_at
            if age > (HEALTHY_FOR_SECONDS if self._was_healthy else UNHEALTHY_FOR_SECONDS):
                self._note(await self._is_serving())
        if not self._was_healthy:
            raise TemporalUnavailable

    async def start_payment(self, row: starts.Row, deadline_seconds: float) -> PaymentAnswer | None:
        workflow_id = names.payment_workflow_id(row.id)
        if row.workflow_started_at is not None:
            return await self._joined(workflow_id, PaymentAnswer, deadline_seconds)
        operation: Start = WithStartWorkflowOperation(
            names.PAYMENT,
            starts.payment_start(row, self._windows),
            id=workflow_id,
            search_attributes=starts.payment_search_attributes(row),
            static_summary=starts.payment_summary(row),
            static_details=starts.payment_details(row),
            **_ONCE,
        )
        return await self._started(operation, PaymentAnswer, deadline_seconds)

    async def start_refund(self, row: starts.Row, deadline_seconds: float) -> RefundAnswer | None:
        workflow_id = names.refund_workflow_id(row.id)
        if row.workflow_started_at is not None:
            return await self._joined(workflow_id, RefundAnswer, deadline_seconds)
        operation: Start = WithStartWorkflowOperation(
            names.REFUND,
            starts.refund_start(row),
            id=workflow_id,
            search_attributes=starts.refund_search_attributes(row),
            static_summary=starts.refund_summary(row),
            **_ONCE,
        )
        return await self._started(operation, RefundAnswer, deadline_seconds)

    async def command(
        self, workflow_id: str, update: str, update_id: str, argument: Frozen, deadline_seconds: float
    ) -> Done | Accepted:
        until = time.monotonic() + deadline_seconds
        try:
            handle = await self._unless_leaving(
                self._client.get_workflow_handle(workflow_id).start_update(
                    update,
                    argument,
                    id=update_id,
                    wait_for_stage=WorkflowUpdateStage.ACCEPTED,
                    rpc_timeout=timedelta(seconds=deadline_seconds),
                )
            )
        except WorkflowUpdateFailedError as error:
            raise _refusal(error) from error
        except _Leaving as error:
            raise TemporalUnavailable from error
        except (WorkflowUpdateRPCTimeoutOrCancelledError, RPCError) as error:
            raise _not_reached(error) from error
        self._note(True)
        try:
            return await self._unless_leaving(_result(handle, until - time.monotonic()))
        except _Leaving:
            return Accepted()

    async def _started(self, operation: Start, answer: type[Any], deadline_seconds: float) -> Any | None:
        call = self._client.execute_update_with_start_workflow(
            names.ACCEPT,
            start_workflow_operation=operation,
            id=names.ACCEPT,
            result_type=answer,
            rpc_timeout=timedelta(seconds=deadline_seconds),
        )
        result = await self._answer(call, deadline_seconds)
        if result is None:
            await _consume(operation)
        return result

    async def _joined(self, workflow_id: str, answer: type[Any], deadline_seconds: float) -> Any | None:
        call = self._client.get_workflow_handle(workflow_id).execute_update(
            names.ACCEPT,
            id=names.ACCEPT,
            result_type=answer,
            rpc_timeout=timedelta(seconds=deadline_seconds),
        )
        return await self._answer(call, deadline_seconds)

    async def _answer(self, call: Awaitable[T], deadline_seconds: float) -> T | None:
        try:
            # The call's own deadline ends with the server's long poll; the outer one bounds whatever follows it.
            async with asyncio.timeout(deadline_seconds + 1):
                result = await self._unless_leaving(call)
        except _Leaving:
            return None
        except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError) as error:
            log.info("no early answer in time", error=type(error).__name__)
            return None
        except (RPCError, WorkflowAlreadyStartedError, WorkflowUpdateFailedError) as error:
            # Accepted is accepted: the relay starts what did not start, and the database knows what became of it.
            log.warning(
                "no early answer", error=type(error).__name__, status=str(getattr(error, "status", ""))
            )
            return None
        self._note(True)
        return result

    async def _unless_leaving(self, call: Awaitable[T]) -> T:
        """The call's result. Raises `_Leaving` when the process ends first; the call may have arrived all the same."""
        calling, leaving = asyncio.ensure_future(call), asyncio.ensure_future(self._leaving.wait())
        try:
            await asyncio.wait({calling, leaving}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            calling.add_done_callback(_take_note)
            calling.cancel()
            raise
        finally:
            leaving.cancel()
        if calling.done():
            return calling.result()
        await _end(calling)
        raise _Leaving

    async def _is_serving(self) -> bool:
        try:
            return await self._client.service_client.check_health(timeout=HEALTH_TIMEOUT)
        except (RPCError, RuntimeError):
            return False

    def _note(self, healthy: bool) -> None:
        self._checked_at, self._was_healthy = time.monotonic(), healthy


async def _result(handle: Any, seconds_left: float) -> Done | Accepted:
    try:
        answer = await handle.result(rpc_timeout=timedelta(seconds=max(seconds_left, 0.05)))
    except WorkflowUpdateFailedError as error:
        raise _refusal(error) from error
    except (WorkflowUpdateRPCTimeoutOrCancelledError, RPCError) as error:
        if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
            raise WorkflowGone from error
        return Accepted()
    return _done(answer)


def _done(answer: object) -> Done:
    """Command answers differ between workflows; all name the refusal the same way."""
    if isinstance(answer, Mapping):
        return Done(answer.get("refused"), str(answer.get("detail") or ""))
    return Done(getattr(answer, "refused", None), getattr(answer, "detail", ""))


def _refusal(error: WorkflowUpdateFailedError) -> Exception:
    """A validator refuses with an ApplicationError whose type is the stable code."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.type in set(Refusal):
        facts = cause.details[0] if cause.details and isinstance(cause.details[0], dict) else {}
        return Refused(Refusal(cause.type), cause.message, facts)
    if isinstance(cause, ApplicationError) and cause.type == "AcceptedUpdateCompletedWorkflow":
        return WorkflowGone()
    return error


def _not_reached(error: Exception) -> Exception:
    if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
        return WorkflowGone()
    return TemporalUnavailable() if _is_out_of_reach(error) else error


def _is_out_of_reach(error: Exception) -> bool:
    return isinstance(error, WorkflowUpdateRPCTimeoutOrCancelledError) or (
        isinstance(error, RPCError) and error.status in _OUT_OF_REACH
    )


async def _consume(operation: Start) -> None:
    """Fetch the start's result too, or asyncio reports an exception nobody retrieved. It adds nothing to ours."""
    await _end(asyncio.ensure_future(operation.workflow_handle()), patience_seconds=0.1)


async def _end(call: asyncio.Future[Any], patience_seconds: float = 0.0) -> None:
    """Give the call a moment, cancel it, and take note of whatever it raised: its caller has an answer already."""
    await asyncio.wait({call}, timeout=patience_seconds)
    call.add_done_callback(_take_note)
    call.cancel()
    await asyncio.wait({call}, timeout=0.5)


def _take_note(call: asyncio.Future[Any]) -> None:
    """Retrieve what nobody waits for any more, or asyncio reports it as an exception that was forgotten."""
    if not call.cancelled():
        call.exception()
