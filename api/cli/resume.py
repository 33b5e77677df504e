"""`corridor resume`: Temporal is lost; every payment and refund that is not finished goes on from the database.

So do the imports, whose schedules were in Temporal alone.
"""

import asyncio
import dataclasses
from collections.abc import Mapping

from temporalio.service import RPCError

from api.cli import output
from api.cli.acts import on_record
from api.cli.exit_codes import ExitCode
from api.cli.temporal_says import trouble
from corridor.runtime import client as temporal_client
from corridor.runtime import settings
from corridor.runtime.patience import while_away
from corridor.runtime.settings import Settings
from corridor.storage.database import DatabaseUnavailable
from workers import schedules, wiring
from workers.resume import Found, Resumed, resume_all
from workflows.starts import Windows


def run(given: Mapping[str, object], *, as_json: bool) -> ExitCode:
    """Start what has no running workflow; what still runs is left alone, so a second run is harmless.

    Fails where the database proved to be older than the world.
    """
    begun: dict[str, Found] = {}
    try:
        resumed = asyncio.run(resume(settings.load(**given), begun))
    except DatabaseUnavailable as error:
        output.talk(f"corridor: the database cannot be reached: {error}; {so_far(begun)}")
        return ExitCode.UNAVAILABLE
    except (RPCError, RuntimeError) as error:
        output.talk(f"corridor: {trouble(error)}; {so_far(begun)}")
        return ExitCode.UNAVAILABLE
    if as_json:
        output.document(dataclasses.asdict(resumed))
    else:
        _tell(resumed)
    if resumed.behind:
        output.talk(
            f"corridor: {len(resumed.behind)} were not started and nothing of them was changed: their workflows have"
            " ended and their rows have not, so the database is older than the world; stop the workers and run"
            " `corridor restore-check --repair`"
        )
    return _code(resumed)


def _code(resumed: Resumed) -> ExitCode:
    return ExitCode.FAILURE if resumed.behind else ExitCode.OK


def _tell(resumed: Resumed) -> None:
    for object_id in resumed.behind:
        output.line(f"NEEDS YOU  {object_id}: its workflow has ended, its row has not")
    counts = {"started": resumed.started, "left running": resumed.running, "not started": resumed.behind}
    output.pairs({name: str(len(ids)) for name, ids in counts.items()})


def so_far(begun: Mapping[str, Found]) -> str:
    """What a run did before it was cut off. A start whose answer was lost is in neither number, and is found running."""
    if not begun:
        return "nothing is known to have been started; run it again when it is back"
    done = Resumed.of(begun)
    behind = f", {len(done.behind)} are ahead of this database and were left alone" if done.behind else ""
    return (
        f"{len(done.started)} were started and go on, {len(done.running)} were running{behind}; "
        "the others were not looked at: run it again when it is back"
    )


async def resume(loaded: Settings, begun: dict[str, Found] | None = None) -> Resumed:
    """One run against the installation that these settings describe, on the record of operators' acts.

    The schedules of settlement imports are put back too, where a lost Temporal took them along. `begun`: filled on the
    way, see `resume_all`.
    """
    begun = {} if begun is None else begun
    wired = wiring.build(loaded)
    edge = wired.edge
    try:
        async with on_record(edge.database, loaded, "resume", {}) as act:
            client = await temporal_client.connect(loaded)
            windows = Windows(
                settle_within_seconds=loaded.settle_within_days * 86_400,
                action_window_seconds=loaded.action_window_seconds,
            )
            try:
                # First, for what is captured waits for the imports; workers that lived on look once a minute.
                await while_away(lambda: schedules.put_back(client, edge.providers.names, loaded))
                resumed = await resume_all(
                    edge.database, client, edge.providers, windows, edge.now(), begun=begun
                )
                act.ended(_code(resumed))
                return resumed
            finally:
                done = Resumed.of(begun)
                act.result = {"started": len(done.started), "left running": len(done.running)}
                if done.behind:
                    act.result["not started"] = len(done.behind)
    finally:
        await wired.close()
