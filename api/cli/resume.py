"""`corridor resume`: Temporal is lost; every payment and refund that is not finished goes on from the database."""

import asyncio
from collections.abc import Mapping

from api.cli import output
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
        resumed = asyncio.run(_resume(settings.load(**given)))
    except DatabaseUnavailable as error:
        output.talk(f"corridor: the database cannot be reached: {error}; nothing was started")
        return ExitCode.UNAVAILABLE
    except RuntimeError as error:
        output.talk(f"corridor: Temporal cannot be reached: {error}; nothing was started")
        return ExitCode.UNAVAILABLE
    if as_json:
        output.document({"started": resumed.started, "running": resumed.running})
    else:
        output.pairs({"started": str(len(resumed.started)), "left running": str(len(resumed.running))})
    return ExitCode.OK


async def _resume(loaded: Settings) -> Resumed:
    wired = wiring.build(loaded)
    try:
        client = await temporal_client.connect(loaded)
        windows = Windows(
            settle_within_seconds=loaded.settle_within_days * 86_400,
            action_window_seconds=loaded.action_window_seconds,
        )
        return await resume_all(wired.edge.database, client, wired.edge.providers, windows, wired.edge.now())
    finally:
        await wired.close()
