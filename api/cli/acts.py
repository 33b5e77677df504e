"""The record of operators' acts: a command that changes something is on it before it acts, and its end after.

What cannot be recorded is not done. A command that dies in between leaves an act without an end, which is what an
auditor wants to see; `corridor operator log` shows them all.
"""

import asyncio
import contextlib
import json
import os
import pwd
import re
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from api.cli import output
from api.cli.exit_codes import ExitCode
from api.cli.installation import NotInstalled, database_of
from corridor.domain.ids import Prefix, new_id
from corridor.runtime import settings
from corridor.runtime.settings import Settings
from corridor.storage import operator_acts
from corridor.storage.database import Database, DatabaseUnavailable
from corridor.storage.operator_acts import NewAct
from corridor.storage.records import Json

LONGEST_REASON = 40
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass
class Act:
    """An act under way. `result`: what it made or moved, for the record; never a secret."""

    outcome: str = operator_acts.OK
    result: dict[str, object] = field(default_factory=dict)

    def ended(self, code: ExitCode) -> ExitCode:
        """As this exit status says."""
        self.outcome = operator_acts.OK if code is ExitCode.OK else _failed(code.name)
        return code


@contextlib.asynccontextmanager
async def on_record(
    database: Database,
    loaded: Settings,
    command: str,
    words: Mapping[str, object],
    began: datetime | None = None,
) -> AsyncIterator[Act]:
    """Everything inside is one act of whoever gave the command; an exception is how it ended, and goes on.

    `began`: for a command that makes the database it is recorded in. Raises `NotInstalled` or `DatabaseUnavailable`
    before anything is done.
    """
    at = began or _now()
    begun = NewAct(
        id=new_id(Prefix.OPERATOR_ACT, at),
        at=at,
        who=loaded.operator or whoever_runs_this(),
        command=command,
        words=dict(words),
    )
    if not await database.read(operator_acts.is_kept):
        raise NotInstalled("the database's schema is older than this code; run: corridor migrate")
    await database.write(operator_acts.begin, begun)
    act = Act()
    try:
        yield act
    except BaseException as error:
        act.outcome = _failed(_reason(error))
        raise
    finally:
        await _end(database, begun, act)


async def _end(database: Database, begun: NewAct, act: Act) -> None:
    """What was done is done: an end that cannot be written is said, and the act stays begun."""
    try:
        await database.write(operator_acts.end, begun.id, act.outcome, act.result, _now())
    except DatabaseUnavailable as error:
        output.talk(f"corridor: the end of {begun.id} ({act.outcome}) is on no record: {error}")


def whoever_runs_this() -> str:
    """`user@host`, by the process and not by what the environment says of it."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"[:128]


def _reason(error: BaseException) -> str:
    """The kind of the error alone: its text may quote what must not be kept."""
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt):
        return "interrupted"
    return _HUMP.sub("_", type(error).__name__)


def _failed(reason: str) -> str:
    return f"failed: {reason.lower()[:LONGEST_REASON]}"


# --- corridor operator log -------------------------------------------------------------------------------------


def log(given: Mapping[str, object], since: datetime | None, *, as_json: bool) -> ExitCode:
    """Every act since then, oldest first."""
    try:
        acts = asyncio.run(_acts(settings.load(**given), since))
    except DatabaseUnavailable as error:
        output.talk(f"corridor: the database cannot be reached: {error}")
        return ExitCode.UNAVAILABLE
    except NotInstalled as error:
        output.talk(f"corridor: {error}")
        return ExitCode.NOT_FOUND
    if as_json:
        output.document({"acts": acts})
        return ExitCode.OK
    for act in acts:
        outcome = act["outcome"] or "BEGUN, end unknown"
        output.line(
            f"{act['at']}  {act['who']}  {act['command']}  {_told(act['words'])}  {outcome}  {_told(act['result'])}"
        )
    if not acts:
        output.talk("no act is on record")
    return ExitCode.OK


async def _acts(loaded: Settings, since: datetime | None) -> list[Json]:
    database = database_of(loaded)
    try:
        if not await database.read(operator_acts.is_kept):
            return []
        return [operator_acts.view(row) for row in await database.read(operator_acts.since, since)]
    finally:
        await database.close()


def _told(named: Mapping[str, object]) -> str:
    """As JSON, so that nothing somebody typed can move a terminal's cursor."""
    return " ".join(f"{name}={json.dumps(it)}" for name, it in named.items() if it not in (None, "")) or "-"


def _now() -> datetime:
    return datetime.now(UTC)
