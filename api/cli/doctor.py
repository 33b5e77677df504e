"""`corridor doctor`: checks what an installation stands on, and says for each trouble what to do."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, text
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError

from api.cli import output
from api.cli.exit_codes import ExitCode
from corridor.runtime import client, keys, settings, temporal_server
from corridor.runtime.refused import SettingsRefused
from corridor.runtime.settings import Settings
from corridor.storage.database import Database, DatabaseUnavailable

_LOW_DISK_BYTES = 1_000_000_000


class Trouble(Exception):
    """A check did not pass; the text says what to do."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    check: str
    ok: bool
    detail: str


def run(given: Mapping[str, object], *, as_json: bool) -> ExitCode:
    """Run all checks, whatever the first ones say."""
    findings = asyncio.run(_examine(settings.load(**given)))
    if as_json:
        output.document([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            output.line(f"{'ok  ' if finding.ok else 'FAIL'} {finding.check}: {finding.detail}")
    return ExitCode.OK if all(finding.ok for finding in findings) else ExitCode.FAILURE


async def _examine(loaded: Settings) -> list[Finding]:
    checks: Mapping[str, Callable[[Settings], Awaitable[str]]] = {
        "mode": _mode,
        "disk": _disk,
        "key ring": _key_ring,
        "Temporal server": _executable,
        "database": _database,
        "Temporal": _temporal,
    }
    return [await _check(name, check, loaded) for name, check in checks.items()]


async def _check(name: str, check: Callable[[Settings], Awaitable[str]], loaded: Settings) -> Finding:
    try:
        return Finding(name, True, await check(loaded))
    except (Trouble, SettingsRefused, DatabaseUnavailable, temporal_server.ServerMissing) as error:
        return Finding(name, False, str(error))


async def _mode(loaded: Settings) -> str:
    return f"{loaded.mode}; provider at {loaded.stripe_address}"


async def _disk(loaded: Settings) -> str:
    place = loaded.data_dir if loaded.data_dir.exists() else loaded.data_dir.absolute().parent
    free = shutil.disk_usage(place).free
    if free < _LOW_DISK_BYTES:
        raise Trouble(f"{free // 1_000_000} MB free at {place}; a full disk stops payments")
    return f"{free // 1_000_000} MB free at {place}"


async def _key_ring(loaded: Settings) -> str:
    if loaded.encryption_keys is None and not keys.ring_path(loaded).exists():
        return "none yet; `corridor up` makes one"
    ring = keys.load(loaded)
    return f"{len(ring.keys)} keys, seals with {ring.current}"


async def _executable(_loaded: Settings) -> str:
    return str(temporal_server.executable())


async def _database(loaded: Settings) -> str:
    if loaded.database_url is None and not (loaded.data_dir / "corridor.db").exists():
        return "none yet; `corridor up` makes one"
    database = Database(loaded.database)
    try:
        return f"schema {await database.read(_schema_version)}"
    finally:
        await database.close()


def _schema_version(connection: Connection) -> str:
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


async def _temporal(loaded: Settings) -> str:
    """Reachable, and the search attributes are there: an upsert of an unknown one fails the workflow task."""
    found = client.connection(loaded)
    try:
        connected = await Client.connect(**found)
        answer = await connected.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=connected.namespace)
        )
    except (RuntimeError, RPCError) as error:
        raise Trouble(f"{found['target_host']} cannot be reached; is `corridor up` running?") from error
    missing = sorted(set(temporal_server.SEARCH_ATTRIBUTES) - set(answer.custom_attributes))
    if missing:
        raise Trouble(
            f"search attributes missing: {', '.join(missing)}; see infra/temporal/search-attributes.sh"
        )
    return f"{found['target_host']}, namespace {found['namespace']}"
