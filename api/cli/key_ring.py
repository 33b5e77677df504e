"""`corridor keys`: rotate the key ring of an embedded installation."""

import asyncio
from collections.abc import Mapping

from api.cli import output
from api.cli.acts import on_record
from api.cli.exit_codes import ExitCode
from api.cli.installation import database_of, has_database
from corridor.runtime import keys, settings
from corridor.runtime.settings import Settings
from corridor.storage.database import DatabaseUnavailable


def rotate(given: Mapping[str, object]) -> ExitCode:
    """Add a key and make it the current one; every process reads the ring when it starts."""
    loaded = settings.load(**given)
    if loaded.encryption_keys is not None:
        output.talk("corridor: the ring comes from CORRIDOR_ENCRYPTION_KEYS; rotate it where that is kept")
        return ExitCode.CONFLICT
    if not has_database(loaded):
        output.talk("corridor: there is no database here yet, so this is on no record")
        _rotate(loaded)
        return ExitCode.OK
    try:
        asyncio.run(_rotate_on_record(loaded))
    except DatabaseUnavailable as error:
        output.talk(f"corridor: the database cannot be reached: {error}; what is on no record is not done")
        return ExitCode.UNAVAILABLE
    return ExitCode.OK


async def _rotate_on_record(loaded: Settings) -> None:
    database = database_of(loaded)
    try:
        async with on_record(database, loaded, "keys new", {}) as act:
            act.result = {"key": _rotate(loaded)}
    finally:
        await database.close()


def _rotate(loaded: Settings) -> str:
    """The id of the new key."""
    path = keys.ring_path(loaded)
    ring = keys.load(loaded).rotated() if path.exists() else keys.KeyRing.generate()
    keys.save(ring, path)
    output.talk(f"{path}: {', '.join(ring.keys)}; restart every process so that it seals with the new key")
    output.line(ring.current)
    return ring.current
