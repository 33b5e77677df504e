"""Commands on running workflows (capture, cancel, decide): claim the key, send the update, store the answer.

The update's id comes from what is asked for, so a repeat after a crash joins the same update; the answer is stored
under the key and every later repeat gets those bytes. That an outcome is not known yet is not an answer to keep.
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
    overtaken: Callable[[Json], Refused | None] = lambda _view: None
    """The refusal, where this view shows that something else was decided than the command asks for."""


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
        view = await deps.database.read(command.view)
        return await _refuse(request, deps, claim, command, refused, view)
    except Exception:
        await release(deps, claim.resource_id)
        raise
    crash_point("command.sent")
    view = await deps.database.read(command.view)
    if isinstance(result, Accepted):
        await release(deps, claim.resource_id)
        return accepted(view, command.location)
    refusal = _refusal_in(result, view) or command.overtaken(view)
    if refusal is not None:
        return await _refuse(request, deps, claim, command, refusal, view)
    return await _store(deps, claim, Replay(200, None, render(view)))


def _refusal_in(result: Done, view: Json) -> Refused | None:
    if result.refused is None:
        return None
    return Refused(Refusal(result.refused), result.detail or "the payment had moved on", _status_facts(view))


async def _refuse(
    request: Request, deps: ApiDependencies, claim: Claim, command: Command, refused: Refused, view: Json
) -> Response:
    """Keep the refusal as the answer, unless nobody knows yet, or the view says that the command was carried out."""
    if command.is_done(view) and _may_be_its_doing(claim, refused, view):
        return await _store(deps, claim, Replay(200, None, render(view)))
    if (open_still := _not_known_yet(command, refused, view)) is not None:
        await release(deps, claim.resource_id)
        raise open_still
    if refused.code is Refusal.OUTCOME_UNKNOWN:
        detail = f"by now it is known: the {command.update} did not happen, the payment is {view['status']}"
        refused = Refused(Refusal.STATE_CONFLICT, detail, _status_facts(view))
    problem = of_refusal(command.overtaken(view) or refused)
    if _has_ended(view):
        problem.retry = "never"
    return await _store_problem(request, deps, claim, problem)


def _may_be_its_doing(claim: Claim, refused: Refused, view: Json) -> bool:
    """Whether a command that was refused may all the same be what made the view as it is.

    A workflow that was lost may have carried out an earlier try of this request and told nobody; the one that goes on
    in its place only finds that there is nothing left to do. What was unknown may have been proven since. And a review
    says itself who decided what and why: the same decision under another key is that decision.
    """
    return claim.resumed or refused.code is Refusal.OUTCOME_UNKNOWN or view["object"] == "review"


def _not_known_yet(command: Command, refused: Refused, view: Json) -> Problem | None:
    """The answer for now, where a refusal is not the last word; the same key finds out how it ended."""
    is_open = view["status"] == "open" if view["object"] == "review" else not _is_proven(view)
    if refused.code is Refusal.OUTCOME_UNKNOWN and is_open:
        return Problem(
            "outcome_unknown",
            f"it is not known yet whether the {command.update} happened: a call to the provider is unresolved. It is "
            f"looked up until there is proof, or a person decides. Ask {command.location}; once it is known, the same "
            "key says how this ended",
            facts=_status_facts(view),
            headers={"Location": command.location},
        )
    if refused.code is Refusal.REVIEW_ALREADY_DECIDED and is_open and view["object"] == "review":
        # The row of a review is written a moment before its workflow knows of it.
        return Problem("unavailable", "the review is being opened; nothing was changed, repeat it")
    return None


def _is_proven(view: Json) -> bool:
    """Whether the payment is where only proof leads, after an effect whose outcome was unknown."""
    status = Status(view["status"])
    return status.is_terminal or status in (Status.AUTHORIZED, Status.CAPTURED)


def _claim(
    connection: Connection, once: Once, command: Command, request_id: str, now: datetime
) -> Claim | Replay:
    view = command.view(connection)
    claim = once.claim(connection, request_id, now)
    if isinstance(claim, Replay) or claim.resumed:
        return claim
    if (refused := command.overtaken(view)) is not None:
        raise refused
    if command.check is not None:
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
