"""`corridor keys`: rotate a key ring that is kept in a file, at once or in two steps.

A process that has not read the ring again cannot open what a newer key sealed. One machine restarts whole (`keys new`);
where processes are replaced one after another, each must have the key (`keys add`) before any seals with it (`keys use`).
"""

import asyncio
from collections.abc import Callable, Mapping

from api.cli import output
from api.cli.acts import on_record
from api.cli.exit_codes import ExitCode
from api.cli.installation import database_of, has_database
from corridor.runtime import keys, settings
from corridor.runtime.keys import KeyRing
from corridor.runtime.refused import SettingsRefused
from corridor.runtime.settings import Settings
from corridor.storage.database import DatabaseUnavailable

Change = Callable[[KeyRing | None], tuple[str, KeyRing]]
"""The id of the key it is about, and the ring as it shall be; an installation that is new has none."""

_SEALS = "restart every process so that it seals with the new key"


def rotate(given: Mapping[str, object]) -> ExitCode:
    """Add a key and make it the current one; every process reads the ring when it starts."""

    def change(ring: KeyRing | None) -> tuple[str, KeyRing]:
        made = KeyRing.generate() if ring is None else ring.rotated()
        return made.current, made

    return _changed(given, "keys new", {}, change, _SEALS)


def add(given: Mapping[str, object]) -> ExitCode:
    """Add a key that opens and does not seal yet; the first of an installation does both."""

    def change(ring: KeyRing | None) -> tuple[str, KeyRing]:
        if ring is None:
            made = KeyRing.generate()
            return made.current, made
        return ring.extended()

    return _changed(given, "keys add", {}, change, "restart every process, then run: corridor keys use")


def use(given: Mapping[str, object], key_id: str) -> ExitCode:
    """Seal with a key that every process has. Raises `SettingsRefused` for one that is not in the ring."""

    def change(ring: KeyRing | None) -> tuple[str, KeyRing]:
        if ring is None:
            raise SettingsRefused("there is no key ring yet; run: corridor keys new")
        return key_id, ring.using(key_id)

    return _changed(given, "keys use", {"key": key_id}, change, _SEALS)


def _changed(
    given: Mapping[str, object], command: str, words: Mapping[str, object], change: Change, then: str
) -> ExitCode:
    loaded = settings.load(**given)
    if loaded.encryption_keys is not None:
        output.talk("corridor: the ring comes from CORRIDOR_ENCRYPTION_KEYS; rotate it where that is kept")
        return ExitCode.CONFLICT
    if not has_database(loaded):
        output.talk("corridor: there is no database here yet, so this is on no record")
        _change(loaded, change, then)
        return ExitCode.OK
    try:
        asyncio.run(_change_on_record(loaded, command, words, change, then))
    except DatabaseUnavailable as error:
        output.talk(f"corridor: the database cannot be reached: {error}; what is on no record is not done")
        return ExitCode.UNAVAILABLE
    return ExitCode.OK


async def _change_on_record(
    loaded: Settings, command: str, words: Mapping[str, object], change: Change, then: str
) -> None:
    database = database_of(loaded)
    try:
        async with on_record(database, loaded, command, words) as act:
            act.result = {"key": _change(loaded, change, then)}
    finally:
        await database.close()


def _change(loaded: Settings, change: Change, then: str) -> str:
    """The id of the key."""
    path = keys.ring_path(loaded)
    keys.require_not_lost(loaded)
    key_id, ring = change(keys.load(loaded) if path.exists() else None)
    keys.save(ring, path)
    output.talk(f"{path}: {', '.join(ring.keys)}, seals with {ring.current}; {then}")
    output.line(key_id)
    return key_id
