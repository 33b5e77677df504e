"""One trace through all processes: API, workflow, activity and provider call, as a collector receives it."""

import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e.installation import Installation, until_answered

Seen = dict[bytes, set[tuple[str, str]]]
"""Trace id → (service, span name)."""


class Collector:
    """An OTLP/HTTP collector that keeps which service reported which span of which trace."""

    def __init__(self) -> None:
        self.seen: Seen = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.seen.setdefault(span.trace_id, set()).add((names["service.name"], span.name))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(
                    gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                )
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Silent."""

        return Handler


@pytest.fixture
def collector() -> Iterator[Collector]:
    opened = Collector()
    yield opened
    opened.server.shutdown()
    opened.server.server_close()


@pytest.mark.timeout(120)
def test_a_payment_is_one_trace_through_api_workflow_activity_and_provider(
    installation: Installation, collector: Collector
) -> None:
    installation.up({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, "OTEL_BSP_SCHEDULE_DELAY": "200"})
    until_answered(installation, installation.merchant_key(), 0)
    wanted = {
        ("corridor-api", "POST /v1/payments"),
        ("corridor-worker", "RunWorkflow:Payment"),
        ("corridor-worker", "RunActivity:provider.execute.v1"),
        ("corridor-worker", "stripe sale"),
    }
    deadline = time.monotonic() + 60
    while not any(wanted <= spans for spans in collector.seen.values()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert any(wanted <= spans for spans in collector.seen.values()), collector.seen
