"""`corridor deploy`: which builds serve payments, which one new payments begin on, and when an old one may stop."""

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from api.cli import output
from api.cli.acts import Act, on_record
from api.cli.exit_codes import ExitCode
from api.cli.installation import database_of
from api.cli.temporal_says import trouble
from corridor.runtime import build, client, settings
from corridor.runtime.histories import Run, from_server
from corridor.runtime.replay import Replayed
from corridor.runtime.replay_pool import CodeUnusable, replay_in_parallel
from corridor.runtime.settings import Settings
from corridor.storage.database import DatabaseUnavailable
from workers.builds import adoption, deployment
from workers.builds.deployment import Build

Command = Callable[[Settings], Coroutine[Any, Any, ExitCode]]
_REFUSALS = frozenset({RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION})


def status(given: Mapping[str, object], *, as_json: bool) -> ExitCode:
    """Every build: its state, how many running workflows are pinned to it, and whether its workers may stop."""

    async def run(loaded: Settings) -> ExitCode:
        connected = await client.connect(loaded)
        _show(await deployment.builds(connected), build.build_id(loaded), as_json=as_json)
        return ExitCode.OK

    return _answered(given, run)


def promote(given: Mapping[str, object], build_id: str | None, *, force: bool) -> ExitCode:
    """Let new payments begin on a build whose workers already run.

    What is not pinned goes over to it in the same moment, so that is replayed against this code first. A build id
    other than this code's own cannot be vouched for here, and needs `force`.
    """

    async def run(loaded: Settings) -> ExitCode:
        chosen = build_id or build.build_id(loaded)
        async with _on_record(loaded, "deploy promote", {"build": chosen, "force": force}) as act:
            return act.ended(await _promote(await client.connect(loaded), loaded, chosen, force=force))

    return _answered(given, run)


async def _promote(connected: Client, loaded: Settings, chosen: str, *, force: bool) -> ExitCode:
    own = build.build_id(loaded)
    if not force:
        if chosen != own:
            output.talk(
                f"corridor: this code is build {own}: it cannot tell whether running workflows fit {chosen}; "
                "run the command from that build, or give --force"
            )
            return ExitCode.CONFLICT
        following = await _judge(loaded)(from_server(connected, deployment.FOLLOWING))
        misfits = [verdict for verdict in following if not adoption.fits(verdict)]
        if misfits:
            _name(misfits)
            output.talk(
                "corridor: these workflows follow the current build and do not fit this one; nothing was changed. "
                "Put the change behind workflow.patched (docs/decisions/0005-versioning.md)"
            )
            return ExitCode.CONFLICT
    if not await deployment.make_current(connected, chosen, whatever_is_missing=force):
        output.talk(
            "corridor: not every queue has heard of it yet; some payments may still begin on the old one"
        )
    output.line(f"new payments begin on build {chosen}")
    _tell_of_older(await deployment.builds(connected))
    return ExitCode.OK


def adopt(given: Mapping[str, object], from_build: str, *, force: bool) -> ExitCode:
    """Move what is pinned to a build that is gone to this one, as far as its histories fit this code."""

    async def run(loaded: Settings) -> ExitCode:
        own = build.build_id(loaded)
        words = {"from_build": from_build, "to_build": own, "force": force}
        async with _on_record(loaded, "deploy adopt", words) as act:
            return act.ended(await _adopt(await client.connect(loaded), loaded, from_build, act, force=force))

    return _answered(given, run)


async def _adopt(connected: Client, loaded: Settings, from_build: str, act: Act, *, force: bool) -> ExitCode:
    known = {one.build_id: one for one in await deployment.builds(connected)}
    if from_build not in known:
        output.talk(f"corridor: there is no build {from_build}")
        return ExitCode.NOT_FOUND
    if not known[from_build].is_gone and not force:
        output.talk(
            f"corridor: workers of {from_build} still ask for work; stop them first: a payment they carry on "
            "while it is moved may no longer fit (or give --force)"
        )
        return ExitCode.CONFLICT
    moved: list[str] = []
    try:
        adopted = await adoption.adopt(connected, from_build, build.build_id(loaded), _judge(loaded), moved)
    except (RPCError, RuntimeError) as error:
        act.result = {"moved": len(moved)}
        output.talk(
            f"corridor: {trouble(error)}; {len(moved)} were moved and stay so, "
            f"the others still wait for build {from_build}: run it again when it is back"
        )
        return act.ended(ExitCode.UNAVAILABLE)
    act.result = {"moved": len(adopted.moved), "misfits": len(adopted.misfits)}
    _name(adopted.misfits)
    output.line(f"{len(adopted.moved)} moved, {len(adopted.misfits)} still need build {from_build}")
    return ExitCode.FAILURE if adopted.misfits else ExitCode.OK


def _judge(loaded: Settings) -> adoption.Judge:
    """In a process of its own: one that has replayed may be aborted by the SDK's threads when it ends."""

    async def judge(runs: AsyncIterable[Run]) -> Sequence[Replayed]:
        return (await replay_in_parallel(runs, loaded, jobs=1)).replayed

    return judge


@contextlib.asynccontextmanager
async def _on_record(loaded: Settings, command: str, words: Mapping[str, object]) -> AsyncIterator[Act]:
    """Builds are Temporal's, the record is the database's: without it nothing is changed."""
    database = database_of(loaded)
    try:
        async with on_record(database, loaded, command, words) as act:
            yield act
    finally:
        await database.close()


def _answered(given: Mapping[str, object], command: Command) -> ExitCode:
    try:
        return asyncio.run(command(settings.load(**given)))
    except DatabaseUnavailable as error:
        output.talk(f"corridor: the database cannot be reached: {error}; what is on no record is not done")
        return ExitCode.UNAVAILABLE
    except RPCError as error:
        output.talk(f"corridor: {trouble(error)}")
        return ExitCode.CONFLICT if error.status in _REFUSALS else ExitCode.UNAVAILABLE
    except CodeUnusable as error:
        output.talk(f"corridor: histories cannot be replayed: {error}; nothing was changed")
        return ExitCode.FAILURE
    except RuntimeError as error:
        output.talk(f"corridor: {trouble(error)}")
        return ExitCode.UNAVAILABLE


def _show(builds: Sequence[Build], own: str, *, as_json: bool) -> None:
    if as_json:
        output.document({"this_build": own, "builds": [_told(one) for one in builds]})
        return
    output.line(f"this code is build {own}")
    if not builds:
        output.line("Temporal knows no build: no versioned worker has ever asked for work here")
        return
    output.line(f"{'build':<16}{'state':<11}{'pinned':>7}  {'workers':<9}may stop")
    for one in builds:
        workers = "gone" if one.is_gone else "running"
        output.line(
            f"{one.build_id:<16}{one.state:<11}{one.pinned:>7}  {workers:<9}{'yes' if one.may_stop else 'no'}"
        )
    _warn_of_stranded(builds)


def _told(one: Build) -> dict[str, object]:
    return {
        "build_id": one.build_id,
        "state": one.state,
        "pinned": one.pinned,
        "workers_running": not one.is_gone,
        "may_stop": one.may_stop,
    }


def _tell_of_older(builds: Sequence[Build]) -> None:
    for one in builds:
        if one.pinned and one.state is not deployment.State.CURRENT:
            output.line(f"build {one.build_id} still carries {one.pinned}: keep its workers running")
    _warn_of_stranded(builds)


def _warn_of_stranded(builds: Sequence[Build]) -> None:
    for one in builds:
        if one.state is deployment.State.CURRENT and one.is_gone:
            output.talk(
                f"corridor: new payments begin on build {one.build_id}, whose workers are gone: start them again, "
                "or promote a build whose workers run"
            )
        if one.is_stranded:
            output.talk(
                f"corridor: {one.pinned} wait for build {one.build_id}, whose workers are gone: start them again, "
                f"or move what fits: corridor deploy adopt {one.build_id}"
            )


def _name(misfits: Sequence[Replayed]) -> None:
    for misfit in misfits:
        first = misfit.reason.splitlines()[0] if misfit.reason else ""
        output.talk(f"{misfit.verdict}: {misfit.workflow_id} {misfit.run_id}: {first}")
