"""SIGTERM to real processes: a worker that waits for Temporal ends, an API tells load balancers before it closes."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from temporalio.testing import WorkflowEnvironment

from corridor.runtime.keys import KeyRing
from corridor.runtime.ports import free_ports

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 60  # stands for "at all": the machine may be busy


@contextlib.contextmanager
def running(module: str, database: str, directory: Path, **own: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m module` on a migrated database, with its output in `directory/log`."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": database,
        "CORRIDOR_DATA_DIR": str(directory / "data"),
        "CORRIDOR_METRICS_PORT": "0",
        **own,
    }
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 — our own code
            [sys.executable, "-m", module], env=environment, cwd=directory, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def eventually(claim: Callable[[], bool], directory: Path) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not claim():
        assert time.monotonic() < deadline, (directory / "log").read_text()
        time.sleep(0.05)


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        held: list[socket.socket] = []

        def hold() -> None:
            with contextlib.suppress(OSError):  # closed below
                while True:
                    held.append(listening.accept()[0])

        threading.Thread(target=hold, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        for one in held:
            one.close()


@pytest.fixture
def key_ring_setting(key_ring: KeyRing) -> Mapping[str, str]:
    """The ring as a setting."""
    return {"CORRIDOR_ENCRYPTION_KEYS": key_ring.render()}


@pytest.fixture(params=["away", "silent"])
def no_temporal(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a Temporal that refuses connections, or takes them and does not answer."""
    if request.param == "away":
        yield f"127.0.0.1:{free_ports(1)[0]}"
        return
    with silent_server() as address:
        yield address


def test_a_worker_that_waits_for_temporal_ends_when_it_is_told_to(
    no_temporal: str, sqlite_database: str, tmp_path: Path, key_ring_setting: Mapping[str, str]
) -> None:
    own = {"TEMPORAL_ADDRESS": no_temporal, "CORRIDOR_LOG_LEVEL": "debug", **key_ring_setting}
    with running("workers", sqlite_database, tmp_path, **own) as worker:
        eventually(lambda: b"waits for temporal" in (tmp_path / "log").read_bytes(), tmp_path)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(LIMIT_SECONDS) == 0, (tmp_path / "log").read_text()
    assert b"stopped before it was ready" in (tmp_path / "log").read_bytes()


def test_an_api_that_is_stopped_is_unready_before_it_refuses_anybody(
    sqlite_database: str, tmp_path: Path, key_ring_setting: Mapping[str, str]
) -> None:
    ours, temporals = free_ports(2)
    own = {
        "CORRIDOR_API_PORT": str(ours),
        "TEMPORAL_ADDRESS": f"127.0.0.1:{temporals}",
        "CORRIDOR_API_DRAIN_SECONDS": "60",  # it is ended below
        **key_ring_setting,
    }
    url = f"http://127.0.0.1:{ours}"

    def ready() -> int:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code
        return 0

    with running("api", sqlite_database, tmp_path, **own) as api:
        eventually(lambda: ready() == 200, tmp_path)
        api.send_signal(signal.SIGTERM)
        eventually(lambda: ready() != 200, tmp_path)
        assert ready() == 503, "it closed before anybody could know"
        assert httpx.get(f"{url}/livez", timeout=5, trust_env=False).status_code == 200
        assert httpx.get(f"{url}/v1/payments", timeout=5, trust_env=False).status_code == 401
        api.send_signal(signal.SIGINT)
        api.wait(LIMIT_SECONDS)


async def test_a_worker_that_is_stopped_is_not_ready_any_more(
    own_temporal_env: WorkflowEnvironment,
    sqlite_database: str,
    tmp_path: Path,
    key_ring_setting: Mapping[str, str],
) -> None:
    ready = tmp_path / "ready"
    own = {
        "TEMPORAL_ADDRESS": own_temporal_env.client.service_client.config.target_host,
        "CORRIDOR_READY_FILE": str(ready),
        "CORRIDOR_WORKER_GRACE_SECONDS": "0",
        **key_ring_setting,
    }

    def until_it_has_ended() -> None:
        with running("workers", sqlite_database, tmp_path, **own) as worker:
            eventually(ready.exists, tmp_path)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(LIMIT_SECONDS) == 0, (tmp_path / "log").read_text()

    await asyncio.to_thread(until_it_has_ended)
    assert not ready.exists()
