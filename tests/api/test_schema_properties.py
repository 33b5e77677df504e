"""Whatever fits, or nearly fits, the OpenAPI document: never a 5xx, and only declared answers."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings
from pydantic import SecretStr
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from corridor.runtime.settings import load
from tests.api.conftest import PEPPER, Clock, standing
from tests.api.test_openapi import GOLDEN

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
schema = schemathesis.openapi.from_path(GOLDEN)


class Served:
    """The application on a port of its own, in a thread with a loop of its own: schemathesis is not async."""

    def __init__(self, directory: Path, database_url: str) -> None:
        self._directory = directory
        self._database_url = database_url
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._ready = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.keys: dict[str, str] = {}
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    async def _serve(self) -> None:
        given = load(data_dir=self._directory, api_key_pepper=SecretStr(PEPPER.get_secret_value()))
        async with standing(self._database_url, Clock(), given) as stand:
            self.keys = stand.keys
            app = stand.http._transport.app  # type: ignore[attr-defined]
            config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
            self._server = uvicorn.Server(config)
            self._ready.set()
            await self._server.serve([self._socket])

    def __enter__(self) -> "Served":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, _sqlite_template: Path) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    path = directory / "corridor.db"
    path.write_bytes(_sqlite_template.read_bytes())
    with Served(directory, f"sqlite:///{path}") as running:
        yield running


@schema.exclude(path="/v1/events/stream").parametrize()
@settings(max_examples=25, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_answer_is_a_declared_one(case: Any, served: Served) -> None:
    who = "operator" if case.path.startswith("/v1/reviews") else "merchant"
    headers = {"Authorization": f"Bearer {served.keys[who]}"}
    answer = case.call(base_url=served.url, headers=headers, timeout=10)
    case.validate_response(answer, checks=CHECKS)
