"""`corridor migrate` and `corridor ledger verify`: commands that work on the database beside a running stack."""

import asyncio
import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime

from api.cli import output
from api.cli.acts import on_record
from api.cli.exit_codes import ExitCode
from corridor.ledger import proof
from corridor.ledger.report import Report
from corridor.runtime import settings
from corridor.runtime.settings import Settings
from corridor.storage import operator_acts
from corridor.storage.database import Database, DatabaseUnavailable
from corridor.storage.deadlines import UNHURRIED
from corridor.storage.migrate import upgrade_async


def migrate(given: Mapping[str, object]) -> ExitCode:
    """Apply what is missing; nothing to do is success."""
    loaded = settings.load(**given)
    try:
        asyncio.run(_migrate(loaded, _database_of(loaded)))
    except DatabaseUnavailable as error:
        output.talk(f"corridor: the database cannot be reached: {error}")
        return ExitCode.UNAVAILABLE
    output.talk("the database is at the newest schema")
    return ExitCode.OK


async def _migrate(loaded: Settings, url: str) -> None:
    """An older schema keeps no record of acts: then this one is written as soon as there is a place for it."""
    began, database = datetime.now(UTC), Database(url)
    try:
        if not await database.read(operator_acts.is_kept):
            await upgrade_async(url)
        async with on_record(database, loaded, "migrate", {}, began):
            await upgrade_async(url)
    finally:
        await database.close()


def verify_ledger(given: Mapping[str, object], *, as_json: bool) -> ExitCode:
    """Prove the ledger on one consistent snapshot."""
    try:
        report = asyncio.run(_verify(_database_of(settings.load(**given))))
    except DatabaseUnavailable as error:
        output.talk(f"corridor: the database cannot be reached: {error}")
        return ExitCode.UNAVAILABLE
    if as_json:
        output.document(dataclasses.asdict(report))
    else:
        output.line(str(report))
    return ExitCode.OK if report.holds else ExitCode.FAILURE


def _database_of(loaded: Settings) -> str:
    if loaded.database_url is None:
        loaded.data_dir.mkdir(parents=True, exist_ok=True)
    return loaded.database


async def _verify(url: str) -> Report:
    database = Database(url, deadlines=UNHURRIED)
    try:
        return await database.read(proof.verify)
    finally:
        await database.close()
