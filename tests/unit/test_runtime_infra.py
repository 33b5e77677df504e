"""The files in infra/ say the same as the code."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from corridor.runtime import temporal_server
from corridor.runtime.ports import free_ports
from corridor.runtime.settings import Settings

INFRA = Path(__file__).parents[2] / "infra"


def test_the_cluster_gets_the_search_attributes_of_the_code() -> None:
    script = (INFRA / "temporal" / "search-attributes.sh").read_text("utf-8")
    assert (
        dict(re.findall(r"^([A-Z]\w+) ([A-Z]\w+)$", script, re.MULTILINE))
        == temporal_server.SEARCH_ATTRIBUTES
    )


def test_the_cluster_gets_the_dynamic_configuration_of_the_embedded_server() -> None:
    document = yaml.safe_load((INFRA / "temporal" / "dynamicconfig.yaml").read_text("utf-8"))
    values = {name: str(entries[0]["value"]) for name, entries in document.items()}
    assert values.items() >= temporal_server.DYNAMIC_CONFIG.items()


def test_the_example_environment_names_only_settings_that_exist() -> None:
    names = re.findall(r"^CORRIDOR_(\w+)=", (INFRA / "compose.env.example").read_text("utf-8"), re.MULTILINE)
    assert {name.lower() for name in names} <= set(Settings.model_fields)


# In a process of its own: OpenTelemetry's providers are global and set once.
RECORD_ONCE = """
import asyncio
import urllib.request
from datetime import UTC, datetime
from corridor.runtime import metrics, settings, telemetry
loaded = settings.load()
running = telemetry.start(loaded, "test")
metrics.payment_reached("settled", "stripe", "DE-EUR:CN-CNY")
metrics.answered(0.1, "final")
metrics.provider_called(0.1, "stripe", "capture", "approved")
metrics.unknown_outcomes(1, 60, "stripe")
metrics.reviews_waiting(1, 60)
metrics.clock_ahead(0.5)
metrics.reference_rate_age(1)
metrics.compensation_retried("capture")
metrics.webhook_received(1, "stripe")
metrics.webhook_delivered("delivered")
metrics.history_export_lag(lambda: 60.0)
metrics.asyncio_tasks(asyncio.new_event_loop())
metrics.provider_down(True, "stripe")
metrics.provider_webhook_refused("stripe")
metrics.proof_contradicted("stripe")
metrics.request_answered("POST", "/v1/payments", 503)
metrics.turn_failed("inbox")
metrics.inbox_waiting(1, 60, 60)
metrics.webhooks_overdue(1, 60)
metrics.events_unplaced(1)
metrics.settlements_overdue(1, 60)
metrics.batches_unbalanced(1)
metrics.watched(datetime.now(UTC))
for port in (loaded.metrics_port, loaded.temporal_metrics_port):
    print(urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode())
running.close()
"""


@pytest.fixture(scope="module")
def exposed() -> str:
    """What Prometheus scrapes from a process that recorded each measurement once."""
    ours, temporals = free_ports(2)
    ports = {"CORRIDOR_METRICS_PORT": str(ours), "CORRIDOR_TEMPORAL_METRICS_PORT": str(temporals)}
    return subprocess.run(  # noqa: S603 — our own code
        [sys.executable, "-c", RECORD_ONCE],
        env={**os.environ, **ports},
        cwd=INFRA.parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout


def test_alerts_ask_for_measurements_that_exist(exposed: str) -> None:
    alerts = (INFRA / "prometheus" / "alerts.yaml").read_text("utf-8")
    assert yaml.safe_load(alerts)["groups"]
    asked = set(re.findall(r"\bcorridor_\w+", alerts))
    offered = set(re.findall(r"^(corridor_\w+)", exposed, re.MULTILINE))
    offered |= {re.sub(r"_(bucket|count|sum)$", "", name) for name in offered}
    assert asked <= offered
    assert {"corridor_payments_total", "corridor_answer_seconds"} <= offered


SHOWN = {
    "corridor_payments_total", "corridor_provider_call_seconds", "corridor_webhook_deliveries_total",
    "corridor_reviews", "corridor_unknown_outcomes", "corridor_webhook_overdue", "corridor_settlement_overdue",
    "corridor_inbox_waiting", "corridor_inbox_oldest_seconds", "corridor_asyncio_tasks",
}  # fmt: skip
"""For charts: how much there is of something. Alerts ask how long the first has waited."""


def test_what_is_measured_is_alerted_on_or_only_shown(exposed: str) -> None:
    asked = set(re.findall(r"corridor_\w+", " ".join(rule["expr"] for rule in rules())))
    offered = set(re.findall(r"^# TYPE (corridor_\w+) (?:counter|gauge|histogram)$", exposed, re.MULTILINE))
    assert offered - {re.sub(r"_bucket$", "", name) for name in asked} == SHOWN


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((INFRA / "prometheus" / "alerts.yaml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_alert_says_what_is_the_matter_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        assert rule["annotations"].keys() == {"summary", "action"}, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]


def test_a_workflow_whose_task_fails_does_not_resolve_its_alert_between_two_tries() -> None:
    """The server waits up to ten minutes between them, and a scrape or two may be missed."""
    (failing,) = [rule["expr"] for rule in rules() if rule["alert"] == "WorkflowTaskFailing"]
    (minutes,) = re.findall(r"\[(\d+)m\]", failing)
    assert int(minutes) >= 25


TEMPORAL = """#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in *describe*) [ "$(grep -c describe "$CALLS")" -gt "$MISSING" ] ;; esac
"""


def _set_up(
    directory: Path, missing: int, **environment: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the script with a `temporal` that does not find its namespace `missing` times; with what it was asked."""
    calls, temporal = directory / "calls", directory / "temporal"
    calls.touch()
    temporal.write_text(TEMPORAL)
    temporal.chmod(0o755)
    (directory / "sleep").symlink_to("/bin/true")
    own = {"PATH": f"{directory}:{os.environ['PATH']}", "CALLS": str(calls), "MISSING": str(missing)}
    done = subprocess.run(  # noqa: S603 — our own script
        ["/bin/sh", str(INFRA / "temporal" / "search-attributes.sh")],
        env={**os.environ, **own, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done, calls.read_text("utf-8").splitlines()


def test_the_set_up_of_a_cluster_waits_for_its_namespace(tmp_path: Path) -> None:
    done, calls = _set_up(tmp_path, missing=2, TEMPORAL_NAMESPACE="payments")
    assert done.returncode == 0, done.stderr
    assert [call.split()[2] for call in calls[:4]] == ["describe", "describe", "describe", "create"]
    assert len(calls) == 3 + len(temporal_server.SEARCH_ATTRIBUTES) + 1
    assert calls[-1] == "operator namespace update --namespace payments --retention 30d"


def test_the_set_up_of_a_cluster_without_the_namespace_says_so_and_changes_nothing(tmp_path: Path) -> None:
    done, calls = _set_up(tmp_path, missing=99, NAMESPACE_TRIES="3")
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert all("describe" in call for call in calls)


def test_on_temporal_cloud_the_commands_are_told_and_nothing_is_called(tmp_path: Path) -> None:
    done, calls = _set_up(
        tmp_path,
        missing=0,
        TEMPORAL_ADDRESS="corridor.a1b2c.tmprl.cloud:7233",
        TEMPORAL_NAMESPACE="corridor.a1b2c",
    )
    assert (done.returncode, calls) == (0, [])
    assert '--search-attribute "AmountMinor=Int"' in done.stdout
    assert "tcld namespace retention set --namespace corridor.a1b2c --retention-days 30" in done.stdout


def test_nothing_of_ours_starts_before_the_cluster_is_set_up() -> None:
    services = yaml.safe_load((INFRA / "compose.yaml").read_text("utf-8"))["services"]
    assert services["temporal-setup"]["restart"] == "on-failure"
    for name in ("worker", "api", "codec"):
        assert services[name]["depends_on"]["temporal-setup"] == {
            "condition": "service_completed_successfully"
        }
