"""Commands on running workflows (capture, cancel, decide): claim the key, send the update, store the answer.

The update's id comes from the idempotency key, so a repeat after a crash joins the same update; the answer is
stored under the key and every later repeat gets those bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fastapi import Request, Response
from sqlalchemy import Connection

from api.dependencies import ApiDependencies
from api.gateway import Accepted, Done, TemporalUnavailable, WorkflowGone
from api.idempotency import Once, answer_while_down, answered, claiming, release
from api.problems import Problem, of_refusal
from api.responses import accepted
from corridor.domain.failure import Refusal, Refused, invariant
from corridor.domain.ids import Prefix, new_id
from corridor.domain.outcome import Frozen
from corridor.domain.payment import Status
from corridor.runtime.crash import crash_point
from corridor.storage import idempotency
from corridor.storage.database import DatabaseUnavailable
from corridor.storage.idempotency import Claim, Replay
from corridor.storage.payments import render
from corridor.storage.records import Json


@dataclass(frozen=True)
class Command:
    """An update to send, and how the object it acts on is read: first as the owner's, then for the answer."""

    workflow_id: str
    update: str
    update_id: str
    argument: Frozen
    location: str
    view: Callable[[Connection], Json]
    """Raises `Refused(NOT_FOUND)` for a foreign object; called in the claiming transaction too."""
    is_done: Callable[[Json], bool]
    """Whether this view shows just what the command asks for."""
    check: Callable[[Connection], None] | None = None
    """What must hold for a new command, called in the claiming transaction. Raises `Refused` or `Problem`."""


async def carry_out(request: Request, deps: ApiDependencies, once: Once, command: Command) -> Response:
    """The whole way of one command; 202 when it is in the workflow's history but not done within the deadline."""
    if (known := await answer_while_down(deps, once)) is not None:
        return known
    await deps.outages.refresh()
    claim = await claiming(deps, _claim, once, command, new_id(Prefix.REQUEST, deps.clock()), deps.clock())
    if isinstance(claim, Replay):
        return answered(claim, replayed=True)
    crash_point("command.claimed")
    try:
        return await _finish(request, deps, claim, command)
    except DatabaseUnavailable:
        raise _open("the database was lost after the command was sent; repeat it with the same key") from None


async def _finish(request: Request, deps: ApiDependencies, claim: Claim, command: Command) -> Response:
    try:
        result = await _send(deps, command)
    except Refused as refused:
        if await _is_early(deps, command, refused):
            await release(deps, claim.resource_id)
            raise Problem(
                "unavailable", "the review is being opened; nothing was changed, repeat it"
            ) from None
        return await _refuse(request, deps, claim, command, refused)
    except Exception:
        await release(deps, claim.resource_id)
        raise
    crash_point("command.sent")
    view = await deps.database.read(command.view)
    if isinstance(result, Accepted):
        await release(deps, claim.resource_id)
        return accepted(view, command.location)
    if result.refused is not None:
        refusal = Refused(
            Refusal(result.refused), result.detail or "the payment had moved on", _status_facts(view)
        )
        return await _refuse(request, deps, claim, command, refusal)
    return await _store(deps, claim, Replay(200, None, render(view)))


async def _refuse(
    request: Request, deps: ApiDependencies, claim: Claim, command: Command, refused: Refused
) -> Response:
    """Keep the refusal as the answer, unless an earlier try of this request is what stands in the command's way.

    A workflow that was lost may have carried the command out and told nobody; the one that goes on in its place only
    finds that there is nothing left to do.
    """
    if claim.resumed:
        view = await deps.database.read(command.view)
        if command.is_done(view):
            return await _store(deps, claim, Replay(200, None, render(view)))
    return await _store_problem(request, deps, claim, of_refusal(refused))


async def _is_early(deps: ApiDependencies, command: Command, refused: Refused) -> bool:
    """The row of a review is written a moment before its workflow knows of it; that no is not the answer to keep."""
    if refused.code is not Refusal.REVIEW_ALREADY_DECIDED:
        return False
    view = await deps.database.read(command.view)
    return bool(view["object"] == "review" and view["status"] == "open")


def _claim(
    connection: Connection, once: Once, command: Command, request_id: str, now: datetime
) -> Claim | Replay:
    command.view(connection)
    claim = once.claim(connection, request_id, now)
    if isinstance(claim, Claim) and not claim.resumed and command.check is not None:
        command.check(connection)
    return claim


async def _send(deps: ApiDependencies, command: Command) -> Done | Accepted:
    try:
        return await deps.gateway.command(
            command.workflow_id,
            command.update,
            command.update_id,
            command.argument,
            deps.settings.answer_deadline_seconds,
        )
    except WorkflowGone:
        view = await deps.database.read(command.view)
        if not _has_ended(view):
            raise _open("the workflow that does this is not running; repeat with the same key") from None
        raise Refused(
            Refusal.STATE_CONFLICT, f"nothing more can be done; it is {view['status']}", _status_facts(view)
        ) from None
    except TemporalUnavailable:
        raise _open(
            "it is not known whether the command arrived; repeat it with the same key, which joins the first one"
        ) from None


def _open(detail: str) -> Problem:
    """Nobody knows now; the same key finds out."""
    return Problem("unavailable", detail, money_state="unknown")


def _has_ended(view: Json) -> bool:
    """Nothing can be done any more. Otherwise the workflow is to come: started late, or resumed after a loss."""
    if view["object"] == "review":
        return bool(view["status"] == "decided")
    return Status(view["status"]).is_terminal


def _status_facts(view: Json) -> dict[str, str | int | list[str]]:
    return {"current_status": view["status"]}


async def _store_problem(request: Request, deps: ApiDependencies, claim: Claim, problem: Problem) -> Response:
    """A refusal of an accepted command is its answer: the same key gets the same refusal."""
    text = problem.text(request.url.path, request.state.request_id)
    return await _store(deps, claim, Replay(problem.kind.status, None, text))


async def _store(deps: ApiDependencies, claim: Claim, answer: Replay) -> Response:
    """Keep the answer, unless a parallel repeat stored its own first: then that one is sent."""
    stored = await deps.database.write(freeze, claim.resource_id, answer)
    return answered(stored, replayed=False)


def freeze(connection: Connection, resource_id: str, answer: Replay) -> Replay:
    """Store the answer unless one is stored; returns the one that is."""
    idempotency.freeze_answer(connection, resource_id, answer.status_code, answer.location, answer.body)
    stored = idempotency.answer_of(connection, resource_id)
    invariant(stored is not None, f"the answer of {resource_id} is stored")
    return stored or answer
