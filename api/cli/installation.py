"""The installation a command looks into: its database, if there is one at all."""

from corridor.runtime.settings import Settings
from corridor.storage.database import Database


class NotInstalled(Exception):
    """There is no database here; opening one would make an empty file and find no tables in it."""


def database_of(loaded: Settings) -> Database:
    """The installation's database. Raises `NotInstalled`."""
    if loaded.database_url is None and not (loaded.data_dir / "corridor.db").exists():
        raise NotInstalled(f"no installation in {loaded.data_dir}; name one with --data-dir or DATABASE_URL")
    return Database(loaded.database)
