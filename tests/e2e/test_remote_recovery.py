"""Every recovery command as production runs it: PostgreSQL, and a Temporal that others run, with payments in flight."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from temporalio.client import Client

from api.cli.drill import backup
from corridor.fx.ecb import EcbRates
from corridor.runtime import temporal_server
from corridor.runtime.ports import free_ports, on_free_ports
from corridor.runtime.process import die_with_parent
from corridor.runtime.settings import Settings, load
from tests.e2e.installation import CORRIDOR, Installation, captures, payments, until_answered
from workers.whatif.retry import NO_HISTORY
from workflows import names

NAMESPACE = "payments"
FINISHED = 3
LATER = 100
"""The order that is made after the backup."""
POLICY = "[limits]\nreview_above_eur = '60.00'\nmaximum_eur = '60.00'\n\n[retry]\nmaximum_attempts = 1\n"
"""Only the payment that waits is above the limit; tries are told by histories alone."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """Address of a Temporal server that is none of the stack's."""
    (tmp_path / "cluster").mkdir()
    settings = on_free_ports(load(data_dir=tmp_path / "cluster"))
    with (tmp_path / "cluster.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 (the wheel's own program)
            temporal_server.arguments(settings, NAMESPACE),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,  # noqa: PLW1509 (one prepared system call, no locks)
        )
    try:
        yield f"{settings.host}:{settings.temporal_port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()  # nobody reads its file any more
            process.wait(10)


@pytest.fixture
def here(
    cluster: str, postgres_database: str, sandbox_settings: Settings, tmp_path: Path
) -> Iterator[Installation]:
    changes = {
        "database_url": SecretStr(postgres_database),
        "market_day": EcbRates().newest_day(),
        "settlement_interval_seconds": 3,
        "build_id": "in-production",
    }
    found = Installation(sandbox_settings.model_copy(update=changes), tmp_path)
    found.environment |= {"TEMPORAL_ADDRESS": cluster, "TEMPORAL_NAMESPACE": NAMESPACE}
    yield found
    found.down()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_recovery_command_works_on_postgresql_and_a_remote_temporal(
    here: Installation, cluster: str, tmp_path: Path
) -> None:
    here.up()
    assert not (here.settings.data_dir / "temporal.db").exists(), "the stack started no Temporal of its own"
    corridor(here, "deploy", "promote")
    key = here.merchant_key()
    waiting = authorize(here, key)
    done = [until_answered(here, key, number)["id"] for number in range(FINISHED)]

    histories_are_archived_and_replayed(here, tmp_path / "archive", waiting, *done)
    one_payment_is_told(here, done[0])
    a_policy_is_tried(here, tmp_path / "policy.toml", waiting)
    until(lambda: {status(here, key, it) for it in done} == {"settled"}, "what was bought is settled")
    the_books_are_rebuilt(here, tmp_path / "archive", FINISHED + 1)
    what_temporal_lost_is_resumed(here, cluster, key, waiting)
    an_older_database_is_repaired(here, key, tmp_path / "backup")
    drilled = run(here, "drill", "--scenario", "temporal-lost")
    assert drilled.returncode == 5
    assert "does not destroy" in drilled.stderr


def histories_are_archived_and_replayed(here: Installation, archive: Path, *payment_ids: str) -> None:
    (port,) = free_ports(1)
    words = f"history export --follow --every 1 --metrics-port {port} --to {archive}".split()
    with here.log.open("ab") as log:
        exporter = subprocess.Popen([*CORRIDOR, *words], env=here.environment, stdout=log, stderr=log)  # noqa: S603
    try:
        told = {f"payment-{payment_id}" for payment_id in payment_ids}
        until(lambda: told <= archived(archive), "every payment is archived")
        until(lambda: 0 <= lag(port) < 30, "Prometheus can read how far behind the export is")
    finally:
        exporter.send_signal(signal.SIGTERM)
        exporter.wait(20)
    assert exporter.returncode == 0, here.log.read_text()
    verified = corridor(here, "history", "verify-archive", str(archive), "--json")
    assert verified["holds"]
    assert verified["opened"] == verified["lines"] >= len(payment_ids)
    for words in ([], [str(archive)]):
        replayed = corridor(here, "history", "replay", *words, "--json")
        assert replayed["counts"]["fits"] >= len(payment_ids), replayed
        assert replayed["misfits"] == []


def archived(archive: Path) -> set[str]:
    manifest = archive / "manifest.jsonl"
    lines = manifest.read_text("utf-8").splitlines(keepends=True) if manifest.exists() else []
    return {json.loads(line)["workflow_id"] for line in lines if line.endswith("\n")}


def lag(port: int) -> float:
    """As Prometheus scrapes it; negative while it is not known."""
    try:
        page = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5, trust_env=False).text
    except httpx.HTTPError:
        return -1
    found = [line for line in page.splitlines() if line.startswith("corridor_history_export_lag_seconds")]
    return float(found[0].rpartition(" ")[2]) if found else -1


def one_payment_is_told(here: Installation, payment_id: str) -> None:
    told = corridor(here, "timeline", payment_id, "--json")
    assert told["history"] == {"joined": True, "problem": None}
    assert {"workflow", "posting", "event"} <= {it["kind"] for it in told["timeline"]}


def a_policy_is_tried(here: Installation, policy: Path, waiting: str) -> None:
    policy.write_text(POLICY, "utf-8")
    report = corridor(here, "whatif", "--policy", str(policy), "--since", "1h", "--json")
    assert report["history_problem"] is None
    assert report["faithful"]["unfaithful_count"] == 0
    assert [it["payment"] for it in report["told"] if it["result"] == "changed"] == [waiting]
    assert sum(report["sections"]["retry"].values()) == FINISHED
    assert not any(NO_HISTORY in why for why in report["not_observable_because"])


def the_books_are_rebuilt(here: Installation, archive: Path, count: int) -> None:
    exported = corridor(here, "history", "export", "--to", str(archive), "--json")
    assert 0 < exported["written"] <= exported["seen"]
    for words in ([], ["--from", str(archive)]):
        rebuilt = corridor(here, "ledger", "rebuild", *words, "--json")
        assert rebuilt["holds"], rebuilt
        assert rebuilt["told"]["payments"] == count


def what_temporal_lost_is_resumed(here: Installation, cluster: str, key: str, waiting: str) -> None:
    asyncio.run(terminate(cluster, names.payment_workflow_id(waiting)))
    astray = run(here, "resume", TEMPORAL_NAMESPACE="nowhere")
    assert astray.returncode == 7
    assert "Namespace nowhere is not found" in astray.stderr
    assert waiting in corridor(here, "resume", "--json")["started"]
    assert waiting in corridor(here, "resume", "--json")["running"]
    post(here, key, f"/v1/payments/{waiting}:capture", {}, "capture-1")
    until(lambda: status(here, key, waiting) == "settled", "the resumed payment is captured and settled")
    assert captures(here)[waiting] == 1


async def terminate(cluster: str, workflow_id: str) -> None:
    client = await Client.connect(cluster, namespace=NAMESPACE)
    await client.get_workflow_handle(workflow_id).terminate("lost")


def an_older_database_is_repaired(here: Installation, key: str, file: Path) -> None:
    backup.take(here.settings, file)
    later = until_answered(here, key, LATER)["id"]
    until(lambda: status(here, key, later) == "settled", "the later payment has ended")
    here.down()
    here.settings = asyncio.run(backup.put_back(here.settings, file))
    here.environment["DATABASE_URL"] = here.settings.database
    here.up_held()
    # Forced: a Temporal that outlives the workers still lists those that were stopped a moment ago.
    repaired = corridor(here, "restore-check", "--repair", "--force", "--json")
    assert repaired["counts"]["payment_missing"] == 1
    assert {gap["object_id"] for gap in repaired["gaps"] if gap["kind"] == "payment_missing"} == {later}
    assert corridor(here, "restore-check", "--json")["gaps"] == []


def authorize(here: Installation, key: str) -> str:
    """A payment that waits for its capture."""
    body = {
        "amount": {"minor": 9_900, "currency": "EUR"},
        "payment_method": {"type": "card", "provider_token": "pm_card_visa", "fingerprint": "card-9"},
        "buyer": {"country": "DE", "reference": "buyer-9"},
        "capture": "manual",
    }
    return str(post(here, key, "/v1/payments", body, "manual-1")["id"])


def post(here: Installation, key: str, path: str, body: dict[str, Any], name: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": name}
    url = f"{here.settings.api_address}{path}"
    answer = httpx.post(url, json=body, headers=headers, timeout=30, trust_env=False)
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def status(here: Installation, key: str, payment_id: str) -> str:
    return str(next(row["status"] for row in payments(here, key) if row["id"] == payment_id))


def until(holds: Any, what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)


def corridor(here: Installation, *words: str) -> Any:
    """What a command that succeeds prints: its JSON document, if it was asked for one."""
    done = run(here, *words)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout) if "--json" in words else done.stdout


def run(here: Installation, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **here.environment, **extra}
    return subprocess.run(  # noqa: S603
        [*CORRIDOR, *words], env=environment, capture_output=True, text=True, check=False
    )
