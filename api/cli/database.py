"""`corridor migrate` and `corridor ledger verify`: commands that work on the database beside a running stack."""

import asyncio
import dataclasses
from collections.abc import Mapping

from api.cli import output
from api.cli.exit_codes import ExitCode
from corridor.ledger import proof
from corridor.ledger.report import Report
from corridor.runtime import settings
from corridor.storage.database import Database, DatabaseUnavailable
from corridor.storage.migrate import upgrade


def migrate(given: Mapping[str, object]) -> ExitCode:
    """Apply what is missing; nothing to do is success."""
    upgrade(_database_of(given))
    output.talk("the database is at the newest schema")
    return ExitCode.OK


def verify_ledger(given: Mapping[str, object], *, as_json: bool) -> ExitCode:
    """Prove the ledger on one consistent snapshot."""
    try:
        report = asyncio.run(_verify(_database_of(given)))
    except DatabaseUnavailable as error:
        output.talk(f"corridor: the database cannot be reached: {error}")
        return ExitCode.UNAVAILABLE
    if as_json:
        output.document(dataclasses.asdict(report))
    else:
        output.line(str(report))
    return ExitCode.OK if report.holds else ExitCode.FAILURE


def _database_of(given: Mapping[str, object]) -> str:
    loaded = settings.load(**given)
    if loaded.database_url is None:
        loaded.data_dir.mkdir(parents=True, exist_ok=True)
    return loaded.database


async def _verify(url: str) -> Report:
    database = Database(url)
    try:
        return await database.read(proof.verify)
    finally:
        await database.close()
