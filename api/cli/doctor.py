"""`corridor doctor`: checks what an installation stands on, and says for each trouble what to do."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sqlalchemy.exc import DBAPIError
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError

from api.cli import output
from api.cli.exit_codes import ExitCode
from api.cli.temporal_says import trouble
from api.cli.up import known_rates, rates_in_force
from corridor.fx.ecb import EcbRates
from corridor.runtime import client, keys, settings, temporal_server
from corridor.runtime.refused import SettingsRefused
from corridor.runtime.settings import Settings
from corridor.storage import revision
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
        "reference rates": _rates,
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
        keys.require_not_lost(loaded)
        return "none yet; `corridor up` makes one"
    ring = keys.load(loaded)
    return f"{len(ring.keys)} keys, seals with {ring.current}"


async def _executable(_loaded: Settings) -> str:
    return str(temporal_server.executable())


async def _database(loaded: Settings) -> str:
    if _has_no_database(loaded):
        return "none yet; `corridor up` makes one"
    database = Database(loaded.database)
    try:
        schema = await database.read(revision.schema)
    except DBAPIError as error:
        raise Trouble(
            f"it refuses to tell its schema: {error.orig}; see DATABASE_URL and its rights"
        ) from error
    finally:
        await database.close()
    if schema.revision is None:
        raise Trouble("it was never migrated; run: corridor migrate")
    if schema.is_behind:
        raise Trouble(f"schema {schema.revision}, this code needs {schema.needed}; run: corridor migrate")
    newer = "" if schema.revision == schema.needed else f", newer than this code's {schema.needed}"
    return f"schema {schema.revision}{newer}"


def _has_no_database(loaded: Settings) -> bool:
    return loaded.database_url is None and not (loaded.data_dir / "corridor.db").exists()


async def _rates(loaded: Settings) -> str:
    """A payment in two currencies needs a rate; without one that is young enough it fails, and says so to its buyer."""
    if _has_no_database(loaded):
        known = EcbRates()
    else:
        try:
            known = await known_rates(loaded)
        except DBAPIError as error:
            raise Trouble("the downloaded ones cannot be read; see what is said of the database") from error
    told, possible = rates_in_force(loaded, datetime.now(UTC), known.newest_day())
    if not possible:
        raise Trouble(told)
    return told


async def _temporal(loaded: Settings) -> str:
    """Reachable, and the search attributes are there: an upsert of an unknown one fails the workflow task."""
    found = client.connection(loaded)
    try:
        connected = await Client.connect(**found)
        answer = await connected.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=connected.namespace)
        )
    except (RuntimeError, RPCError) as error:
        hint = "; is `corridor up` running?" if loaded.mode == "sandbox" and not client.is_remote() else ""
        raise Trouble(
            f"{found['target_host']}, namespace {found['namespace']}: {trouble(error)}{hint}"
        ) from error
    missing = sorted(set(temporal_server.SEARCH_ATTRIBUTES) - set(answer.custom_attributes))
    if missing:
        raise Trouble(
            f"search attributes missing: {', '.join(missing)}; see infra/temporal/search-attributes.sh"
        )
    return f"{found['target_host']}, namespace {found['namespace']}"
