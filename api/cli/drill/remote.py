"""A Temporal that others run: the drill works there too, in a namespace of its own, and never destroys it.

What leads there are Temporal's own variables (`TEMPORAL_ADDRESS`, `TEMPORAL_PROFILE`, API key, TLS); only the namespace
is another one for each disaster, because the proofs are about every history a namespace holds.
"""

import asyncio
import os
from collections.abc import Mapping
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from corridor.runtime import client, temporal_server
from corridor.runtime.settings import Settings

KEPT = timedelta(days=1)
"""How long a finished drill can be looked at in the Temporal UI."""
USABLE_WITHIN_SECONDS = 60
LOOK_SECONDS = 0.5
PREFIX = "TEMPORAL_"


class ClusterUnusable(Exception):
    """The remote Temporal cannot be reached, or does not let the drill make a namespace of its own."""


def given() -> Mapping[str, str]:
    """The variables that lead to a remote Temporal; none where the drill brings its own."""
    if not client.is_remote():
        return {}
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}


async def enter(variables: Mapping[str, str], namespace: str, settings: Settings) -> None:
    """Make the namespace and let this process and its children work there. Raises `ClusterUnusable`."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    os.environ.update(variables)
    try:
        # No payload is read or written, and the drill's own keys are not made yet.
        administrator = await Client.connect(**client.connection(settings))
    except RuntimeError as error:
        raise ClusterUnusable(f"Temporal cannot be reached: {error}") from error
    try:
        await _make(administrator, namespace)
    except RPCError as refused:
        raise ClusterUnusable(
            f"Temporal refused a namespace to the drill: {refused.message}; it needs one of its own for each disaster: "
            "give it the right to make them, or unset TEMPORAL_ADDRESS and TEMPORAL_PROFILE"
        ) from refused
    os.environ["TEMPORAL_NAMESPACE"] = namespace


async def _make(administrator: Client, namespace: str) -> None:
    retention = Duration(seconds=int(KEPT.total_seconds()))
    await administrator.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=namespace, workflow_execution_retention_period=retention)
    )
    attributes = {
        name: IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{kind.upper()}")
        for name, kind in temporal_server.SEARCH_ATTRIBUTES.items()
    }
    wanted = AddSearchAttributesRequest(namespace=namespace, search_attributes=attributes)
    await _until_accepted(administrator, wanted)


async def _until_accepted(administrator: Client, wanted: AddSearchAttributesRequest) -> None:
    """A cluster's nodes hear of a new namespace one after the other, within their cache's refresh."""
    deadline = asyncio.get_running_loop().time() + USABLE_WITHIN_SECONDS
    while True:
        try:
            await administrator.operator_service.add_search_attributes(wanted)
        except RPCError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(LOOK_SECONDS)
        else:
            return
