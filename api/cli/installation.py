"""The installation a command looks into: its database, if there is one at all."""

from corridor.runtime.refused import SettingsRefused
from corridor.runtime.settings import Settings
from corridor.storage.database import Database


class NotInstalled(SettingsRefused):
    """There is no database here, or none of this build; opening one would make an empty file and find no tables."""


def has_database(loaded: Settings) -> bool:
    """Whether there is one to open; one on a server counts, reachable or not."""
    return loaded.database_url is not None or (loaded.data_dir / "corridor.db").exists()


def database_of(loaded: Settings) -> Database:
    """The installation's database. Raises `NotInstalled`."""
    if not has_database(loaded):
        raise NotInstalled(f"no installation in {loaded.data_dir}; name one with --data-dir or DATABASE_URL")
    return Database(loaded.database)
