"""Connects to Temporal the way Temporal's own tools do, with our converter and tracing.

The address, namespace, API key and TLS come from `TEMPORAL_*` variables or a profile of Temporal's
configuration file (https://docs.temporal.io/develop/environment-configuration), so the same processes run
against the embedded server, a cluster or Temporal Cloud. Without any of them: the embedded server.
"""

from collections.abc import Sequence
from datetime import timedelta

from temporalio.client import Client, Interceptor, Plugin
from temporalio.envconfig import ClientConfig, ClientConnectConfig
from temporalio.runtime import Runtime
from temporalio.service import KeepAliveConfig

from corridor.runtime import keys
from corridor.runtime.converter import make_converter
from corridor.runtime.settings import Settings

DEFAULT_NAMESPACE = "default"


def connection(settings: Settings) -> ClientConnectConfig:
    """Where to connect: Temporal's own configuration, completed with the embedded server's address."""
    found = ClientConfig.load_client_connect_config()
    found.setdefault("target_host", f"{settings.host}:{settings.temporal_port}")
    found.setdefault("namespace", DEFAULT_NAMESPACE)
    return found


def is_remote() -> bool:
    """Whether Temporal's own configuration names a server; else the embedded one is meant."""
    return "target_host" in ClientConfig.load_client_connect_config()


def namespace(settings: Settings) -> str:
    """The namespace in use; part of what every sealed payload is bound to."""
    return connection(settings)["namespace"]


async def connect(
    settings: Settings,
    *,
    identity: str | None = None,
    interceptors: Sequence[Interceptor] = (),
    plugins: Sequence[Plugin] = (),
    runtime: Runtime | None = None,
    lazy: bool = False,
) -> Client:
    """A client with the sealed converter. `lazy` defers the connection to the first call.

    Raises `RuntimeError` if the server cannot be reached and `SettingsRefused` if the key ring is unusable.
    """
    found = connection(settings)
    return await Client.connect(
        **found,
        data_converter=make_converter(keys.load(settings), found["namespace"]),
        interceptors=interceptors,
        plugins=plugins,
        identity=identity,
        runtime=runtime,
        lazy=lazy,
        connect_timeout=timedelta(seconds=5),
        keep_alive_config=KeepAliveConfig(interval_millis=15_000, timeout_millis=5_000),
    )
