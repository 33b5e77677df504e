"""A backup of the platform database and its way back: a file's copy for SQLite, `pg_dump` and `pg_restore` for PostgreSQL.

On PostgreSQL a backup goes into a fresh database beside the one that was struck, and `DATABASE_URL` leads there from
then on. The struck one lets nobody in any more: the recovery cannot look at what it is to do without.
"""

import contextlib
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from corridor.runtime import postgres
from corridor.runtime.settings import Settings
from corridor.storage import address

LOST = "lost"
"""Where the drill puts the SQLite file that the disaster took, as evidence; on PostgreSQL the database stays."""
_FILES = ("", "-wal", "-shm")
_END_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


class BackupFailed(Exception):
    """The database's own tool refused; the text is its last words."""


def take(settings: Settings, to: Path) -> None:
    """A consistent copy while everybody writes. Raises `BackupFailed`, and leaves no half a copy then."""
    try:
        if settings.database_url is None:
            _copy(file_of(settings), to)
        else:
            _run("pg_dump", ["--format=custom", "--no-owner", "--file", str(to)], _url(settings))
    except BackupFailed:
        to.unlink(missing_ok=True)
        raise


async def fence(settings: Settings) -> None:
    """End what killed processes left at the server: a commit it was sent may still be under way there."""
    if settings.database_url is not None:
        await _administer(_url(settings), _END_SESSIONS)


async def put_back(settings: Settings, backup: Path) -> Settings:
    """The backup in place of the database, which is gone; returns the settings that lead to it."""
    if settings.database_url is None:
        lost = settings.data_dir / LOST
        lost.mkdir()
        take_away(file_of(settings), lost)
        shutil.copy(backup, file_of(settings))
        return settings
    struck = _url(settings)
    fresh = struck.set(database=f"{struck.database}_restored")
    await _administer(struck, f'CREATE DATABASE "{fresh.database}"')
    _run("pg_restore", ["--no-owner", "--exit-on-error", "--dbname", str(fresh.database), str(backup)], fresh)
    await _administer(fresh, f'ALTER DATABASE "{struck.database}" WITH ALLOW_CONNECTIONS false')
    leads_there = SecretStr(fresh.render_as_string(hide_password=False))
    return settings.model_copy(update={"database_url": leads_there})


def take_away(file: Path, to: Path) -> None:
    """Move a SQLite database into another directory, with the files that belong to it."""
    for suffix in _FILES:
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.rename(to / part.name)


def file_of(settings: Settings) -> Path:
    """The SQLite file of an installation without `DATABASE_URL`."""
    return settings.data_dir / "corridor.db"


def _copy(file: Path, to: Path) -> None:
    try:
        with (
            contextlib.closing(sqlite3.connect(file)) as source,
            contextlib.closing(sqlite3.connect(to)) as target,
        ):
            source.backup(target)
    except sqlite3.Error as error:
        raise BackupFailed(f"{to}: {error}") from error


def _url(settings: Settings) -> URL:
    return make_url(settings.database)


async def _administer(url: URL, statement: str) -> None:
    there = address.parse(url.render_as_string(hide_password=False))
    engine = create_async_engine(there.url, isolation_level="AUTOCOMMIT", connect_args=there.driver_arguments)
    try:
        async with engine.connect() as connection:
            await connection.execute(text(statement))
    finally:
        await engine.dispose()


def _run(program: str, words: list[str], url: URL) -> None:
    """The address travels in the environment: a password in the arguments is readable by every user."""
    done = subprocess.run(  # noqa: S603 (PostgreSQL's own tool, and no shell)
        [str(postgres.client_program(program)), *words],
        env={"PATH": os.environ.get("PATH", os.defpath), **_address(url)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BackupFailed(f"{program}: {done.stderr.strip()[-500:]}")


def _address(url: URL) -> dict[str, str]:
    """As libpq reads it. A primary and its standby are several hosts in the query, as `host:port`."""
    several = [it.partition(":") for it in _every(url, "host")]
    told = {
        "PGHOST": ",".join(host for host, _, _ in several) or url.host,
        "PGPORT": ",".join(port for _, _, port in several) or url.port,
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
        "PGSSLMODE": ",".join(_every(url, "sslmode") or _every(url, "ssl")),
        "PGSSLROOTCERT": ",".join(_every(url, "sslrootcert")),
        "PGSSLCERT": ",".join(_every(url, "sslcert")),
        "PGSSLKEY": ",".join(_every(url, "sslkey")),
        "PGTARGETSESSIONATTRS": ",".join(_every(url, "target_session_attrs")),
    }
    return {name: str(value) for name, value in told.items() if value}


def _every(url: URL, name: str) -> tuple[str, ...]:
    found = url.query.get(name, ())
    return (found,) if isinstance(found, str) else found
