"""Switches telemetry on for one process: traces by OTLP, metrics for Prometheus, and Temporal's own metrics.

Traces leave only if OpenTelemetry's standard `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) is set;
without it no tracing header is written into histories either.
"""

import os
from dataclasses import dataclass
from datetime import timedelta

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import start_http_server
from temporalio.client import Interceptor
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from corridor.runtime import build
from corridor.runtime.settings import Settings

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@dataclass(frozen=True)
class Telemetry:
    """What `client.connect` wants: `interceptors` and `runtime`; and `close` for an orderly end."""

    interceptors: tuple[Interceptor, ...]
    runtime: Runtime | None
    tracing: TracerProvider | None = None
    measuring: MeterProvider | None = None

    def close(self) -> None:
        """Send what is still buffered; called once, at the end of the process."""
        for provider in (self.tracing, self.measuring):
            if provider is not None:
                provider.shutdown()


def start(settings: Settings, process: str) -> Telemetry:
    """Install the providers of this process; called once, before the Temporal client is made."""
    resource = Resource.create(
        {"service.name": f"corridor-{process}", "service.version": build.build_id(settings)}
    )
    tracing = _tracing(resource) if any(os.environ.get(name) for name in _ENDPOINTS) else None
    return Telemetry(
        # Client and worker both take it from the client; spans in workflow code are made replay-safe by the SDK.
        interceptors=(TracingInterceptor(),) if tracing else (),
        runtime=_temporal_runtime(settings),
        tracing=tracing,
        measuring=_measuring(settings, resource) if settings.metrics_port else None,
    )


def _tracing(resource: Resource) -> TracerProvider:
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


def _measuring(settings: Settings, resource: Resource) -> MeterProvider:
    provider = MeterProvider(metric_readers=[PrometheusMetricReader()], resource=resource)
    metrics.set_meter_provider(provider)
    start_http_server(settings.metrics_port, addr=settings.host)
    return provider


def _temporal_runtime(settings: Settings) -> Runtime | None:
    """Metrics of Temporal's core: task queue latency, slots in use, failed workflow tasks (alert on any)."""
    if not settings.temporal_metrics_port:
        return None
    address = f"{settings.host}:{settings.temporal_metrics_port}"
    exposed = PrometheusConfig(
        bind_address=address, counters_total_suffix=True, durations_as_seconds=True, unit_suffix=True
    )
    return Runtime(
        telemetry=TelemetryConfig(metrics=exposed), worker_heartbeat_interval=timedelta(seconds=60)
    )
