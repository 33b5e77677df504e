"""The schema a database has, held against the one this code was written for."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


@dataclass(frozen=True)
class Schema:
    """`revision` is the database's (None: never migrated), `needed` this code's."""

    revision: str | None
    needed: str | None
    is_behind: bool
    """Something this code needs may be missing. A revision it has never heard of was made by a later version, whose
    migrations only add while this one still serves."""


def schema(connection: Connection) -> Schema:
    """What the database says of itself."""
    found = MigrationContext.configure(connection).get_current_revision()
    older = known()[1:]
    return Schema(found, known()[0], is_behind=found is None or found in older)


@cache
def known() -> tuple[str, ...]:
    """Every revision this code knows, its own first."""
    return tuple(script.revision for script in ScriptDirectory.from_config(config()).walk_revisions())


def config() -> Config:
    """Alembic's, with the migrations that come with this code."""
    made = Config()
    made.set_main_option("script_location", str(files("corridor.storage") / "migrations"))
    return made
