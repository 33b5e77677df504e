"""The embedded stack with its real Temporal server and database; the other processes are played by small ones."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from google.protobuf.json_format import MessageToDict
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest

from corridor.runtime import client as temporal_client
from corridor.runtime.ports import PortTaken
from corridor.runtime.process import Program
from corridor.runtime.settings import Settings
from corridor.runtime.stack import AlreadyRunning, Stack
from corridor.runtime.temporal_server import SEARCH_ATTRIBUTES

SERVE = (
    "import http.server as h, os\n"
    "from corridor.runtime.settings import load\n"
    "class Handler(h.BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        self.send_response(200)\n"
    "        self.end_headers()\n"
    "        self.wfile.write(os.environ['TEMPORAL_ADDRESS'].encode())\n"
    "s = load()\n"
    "h.HTTPServer((s.host, s.api_port), Handler).serve_forever()\n"
)
OWNER = (
    "import sys, time, json\n"
    "sys.path.insert(0, {tests!r})\n"
    "from test_runtime_stack import SmallStack\n"
    "from corridor.runtime.settings import load\n"
    "stack = SmallStack(load()).start()\n"
    "print(stack.pid('temporal'), stack.pid('api'), flush=True)\n"
    "time.sleep(60)\n"
)


class SmallStack(Stack):
    """The real stack, with a tiny API as its only program."""

    def _programs(self) -> list[Program]:
        (api,) = [program for program in super()._programs() if program.name == "api"]
        return [Program(api.name, [sys.executable, "-c", SERVE], api.environment, api.log, api.is_ready)]


@pytest.fixture
def stack(sandbox_settings: Settings) -> Iterator[SmallStack]:
    with SmallStack(sandbox_settings) as stack:
        yield stack


def _eventually(claim: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


async def test_the_server_is_set_up_for_payments(stack: SmallStack) -> None:
    client = await temporal_client.connect(stack.settings)
    namespace = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace="default")
    )
    assert namespace.config.workflow_execution_retention_ttl.seconds == 30 * 86_400
    attributes = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace="default")
    )
    kinds = MessageToDict(attributes)["customAttributes"]
    wanted = {name: f"INDEXED_VALUE_TYPE_{kind.upper()}" for name, kind in SEARCH_ATTRIBUTES.items()}
    assert kinds.items() >= wanted.items()
    async with httpx.AsyncClient(base_url=stack.settings.temporal_ui_address) as ui:
        settings = (await ui.get("/api/v1/settings")).json()
    assert settings["Codec"]["Endpoint"] == stack.settings.codec_address


def test_children_learn_where_temporal_is(stack: SmallStack) -> None:
    assert httpx.get(stack.settings.api_address).text == f"127.0.0.1:{stack.settings.temporal_port}"


def test_a_crashed_server_comes_back_with_what_it_knew(stack: SmallStack) -> None:
    before = stack.pid("temporal")
    stack.kill("temporal")
    stack.wait_ready("temporal")
    assert stack.pid("temporal") not in (None, before)
    stack.restart("api")
    assert httpx.get(stack.settings.api_address).status_code == 200


def test_stop_leaves_no_process_and_no_port(sandbox_settings: Settings) -> None:
    stack = SmallStack(sandbox_settings).start()
    pids = [stack.pid(name) for name in ("temporal", "api")]
    begun = time.monotonic()
    stack.stop()
    assert time.monotonic() - begun < 25
    assert not any(psutil.pid_exists(pid) for pid in pids if pid)
    with SmallStack(sandbox_settings):
        assert httpx.get(sandbox_settings.api_address).status_code == 200


def test_a_second_stack_on_the_same_directory_is_refused(stack: SmallStack) -> None:
    with pytest.raises(AlreadyRunning, match=str(os.getpid())):
        SmallStack(stack.settings).start()


def test_a_taken_port_is_told_before_anything_starts(stack: SmallStack, tmp_path: Path) -> None:
    other = SmallStack(stack.settings.model_copy(update={"data_dir": tmp_path / "other"}))
    with pytest.raises(PortTaken, match=r"\(API\) is taken by .*pid"):
        other.start()


def test_after_a_kill_nothing_survives_and_the_same_directory_starts_again(
    sandbox_settings: Settings,
) -> None:
    code = OWNER.format(tests=str(Path(__file__).parent))
    owner = subprocess.Popen(  # noqa: S603 — our own code
        [sys.executable, "-c", code],
        env={**os.environ, **sandbox_settings.environment()},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        assert len(pids) == 2
    finally:
        owner.kill()
        owner.communicate()
    _eventually(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    with SmallStack(sandbox_settings) as stack:
        assert stack.pid("temporal") not in pids
