"""A world whose histories are folded into books again, beside what its database holds."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import Connection, func, select

from activities.contracts import EXECUTE, Executed, ExecuteIn, Step
from corridor.domain.ids import Prefix, new_id
from corridor.domain.outcome import Outcome
from corridor.runtime.histories import from_server, of_workflows
from corridor.storage.database import Database
from corridor.storage.tables import settlement_lines
from tests.workflows.world import World, now
from workers.histories import reading
from workers.rebuild import rebuild
from workers.rebuild.compare import Comparison
from workers.rebuild.fold import Books
from workers.rebuild.rebuild import Rebuilt


@dataclass
class Told:
    """What happened in a world, and what its histories were folded into."""

    here: World
    rebuilt: Rebuilt
    directory: Path

    async def compared(self) -> Comparison:
        """The books, written into a new database and compared with the live one as it is now."""
        target = Database(f"sqlite:///{self.directory / new_id(Prefix.REQUEST, now())}.db")
        try:
            await rebuild.write(self.rebuilt, target, self.here.wired.edge.providers)
            await rebuild.beside_live(self.rebuilt, target, self.here.database)
        finally:
            await target.close()
        assert self.rebuilt.comparison is not None
        return self.rebuilt.comparison


async def told_since(here: World, directory: Path, began: datetime) -> Told:
    """Everything that was started since, read from Temporal when every settlement row is where it belongs."""
    async with asyncio.timeout(60):
        while await here.database.read(_rows_on_their_way):
            await asyncio.sleep(0.1)
    return await told_now(here, directory, began)


async def told_now(here: World, directory: Path, began: datetime) -> Told:
    """Everything that was started since, as it stands."""
    found = Rebuilt(Books())
    converter = here.client.data_converter
    await asyncio.sleep(2)  # the server's list of runs lags behind
    query = f'{rebuild.CARRIES_MONEY} AND StartTime >= "{began.isoformat()}"'
    await rebuild.fold(from_server(here.client, query), converter, found)
    await rebuild.catch_up(found, here.database, lambda ids: of_workflows(here.client, ids), converter)
    return Told(here, found, directory)


def _rows_on_their_way(connection: Connection) -> int:
    """Settlement rows that their payments have not booked yet."""
    under_way = settlement_lines.c.state.in_(("staged", "signaled"))
    return int(connection.execute(select(func.count()).where(under_way)).scalar_one())


class KnowsDeclines(Executed):
    """A provider's answer to a build that cannot read every one a newer build writes."""

    outcome: Literal[Outcome.DECLINED]


def read_declines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on histories are read by a build that does not know what `approved` is."""
    older: dict[str, Step[Any, Any]] = {
        **reading.STEPS,
        EXECUTE.name: Step(EXECUTE.name, ExecuteIn, KnowsDeclines),
    }
    monkeypatch.setattr(reading, "STEPS", older)
