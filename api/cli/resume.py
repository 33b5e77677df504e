"""`corridor resume`: Temporal is lost; every payment and refund that is not finished goes on from the database."""

import asyncio
from collections.abc import Mapping

from temporalio.service import RPCError

from api.cli import output
from api.cli.acts import on_record
from api.cli.exit_codes import ExitCode
from corridor.runtime import client as temporal_client
from corridor.runtime import settings
from corridor.runtime.settings import Settings
from corridor.storage.database import DatabaseUnavailable
from workers import wiring
from workers.resume import Resumed, resume_all
from workflows.starts import Windows


def run(given: Mapping[str, object], *, as_json: bool) -> ExitCode:
    """Start what has no running workflow; what still runs is left alone, so a second run is harmless."""
    try:
        resumed = asyncio.run(resume(settings.load(**given)))
    except DatabaseUnavailable as error:
        output.talk(f"corridor: the database cannot be reached: {error}; nothing was started")
        return ExitCode.UNAVAILABLE
    except RuntimeError as error:
        output.talk(f"corridor: Temporal cannot be reached: {error}; nothing was started")
        return ExitCode.UNAVAILABLE
    except RPCError as error:
        output.talk(
            f"corridor: Temporal went away or refuses: {error.message}; what was started goes on, run again"
        )
        return ExitCode.UNAVAILABLE
    if as_json:
        output.document({"started": resumed.started, "running": resumed.running})
    else:
        output.pairs({"started": str(len(resumed.started)), "left running": str(len(resumed.running))})
    return ExitCode.OK


async def resume(loaded: Settings) -> Resumed:
    """One run against the installation that these settings describe, on the record of operators' acts."""
    wired = wiring.build(loaded)
    edge = wired.edge
    try:
        async with on_record(edge.database, loaded, "resume", {}) as act:
            client = await temporal_client.connect(loaded)
            windows = Windows(
                settle_within_seconds=loaded.settle_within_days * 86_400,
                action_window_seconds=loaded.action_window_seconds,
            )
            resumed = await resume_all(edge.database, client, edge.providers, windows, edge.now())
            act.result = {"started": len(resumed.started), "left running": len(resumed.running)}
            return resumed
    finally:
        await wired.close()
