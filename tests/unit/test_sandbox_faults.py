"""Faults of the sandbox: what happens to the money and what the client sees on its connection."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from corridor.runtime.ports import free_ports
from corridor.sandbox.config import SandboxConfig
from corridor.sandbox.embedded import EmbeddedSandbox
from tests.unit.sandbox_stand import Stand

TAKEN = ["authorise", "capture", "fee"]


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with EmbeddedSandbox(SandboxConfig(port=0, data_dir=tmp_path_factory.mktemp("sandbox"))) as sandbox:
        stand = Stand(sandbox)
        yield stand
        stand.close()


@pytest.mark.parametrize(
    ("suffix", "error", "happened"),
    [
        ("timeoutAfterEffect", httpx.ReadTimeout, True),
        ("timeoutBeforeEffect", httpx.ReadTimeout, False),
        ("closeAfterEffect", httpx.RemoteProtocolError, True),
        ("resetAfterEffect", httpx.ReadError, True),
        ("resetBeforeEffect", httpx.ReadError, False),
    ],
)
def test_broken_connection_hides_whether_the_effect_happened(
    stand: Stand, suffix: str, error: type[Exception], happened: bool
) -> None:
    token, form = f"pm_card_visa_sandbox_{suffix}", {"metadata[payment]": suffix}
    patience = httpx.Timeout(10, read=1 if error is httpx.ReadTimeout else 10)
    with pytest.raises(error):
        stand.pay(token, key=suffix, timeout=patience, **form)
    assert stand.effects(suffix) == (TAKEN if happened else [])
    repeated = stand.pay(token, key=suffix, **form)
    assert repeated.json()["status"] == "succeeded"
    assert ("Idempotent-Replayed" in repeated.headers) is happened
    assert stand.effects(suffix) == TAKEN


@pytest.mark.parametrize(
    ("suffix", "happened"), [("error500Stored", True), ("error500StoredNoEffect", False)]
)
def test_stored_500_replays_for_ever_and_proves_nothing(stand: Stand, suffix: str, happened: bool) -> None:
    token, form = f"pm_card_visa_sandbox_{suffix}", {"metadata[payment]": suffix}
    first = stand.pay(token, key=suffix, **form)
    again = stand.pay(token, key=suffix, **form)
    assert (first.status_code, again.status_code) == (500, 500)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert stand.effects(suffix) == (TAKEN if happened else [])


@pytest.mark.parametrize(("suffix", "status"), [("error503", 503), ("rateLimited", 429), ("error500", 500)])
def test_error_that_is_not_stored_lets_the_repeat_execute(stand: Stand, suffix: str, status: int) -> None:
    token, form = f"pm_card_visa_sandbox_{suffix}", {"metadata[payment]": suffix}
    assert stand.pay(token, key=suffix, **form).status_code == status
    assert stand.effects(suffix) == []
    assert stand.pay(token, key=suffix, **form).status_code == 200
    assert stand.effects(suffix) == TAKEN


def test_garbage_answer_is_not_json_and_its_effect_stands(stand: Stand) -> None:
    form = {"metadata[payment]": "garbage"}
    answer = stand.pay("pm_card_visa_sandbox_garbage", key="garbage", **form)
    with pytest.raises(ValueError):
        answer.json()
    assert stand.effects("garbage") == TAKEN
    assert stand.pay("pm_card_visa_sandbox_garbage", key="garbage", **form).json()["status"] == "succeeded"


def test_unknown_status_is_answered_while_the_object_knows_better(stand: Stand) -> None:
    intent = stand.pay("pm_card_visa_sandbox_unknownStatus", key="odd").json()
    assert intent["status"] == "awaiting_network_settlement"
    assert stand.get(f"/payment_intents/{intent['id']}")["status"] == "succeeded"


def test_lookup_lag_hides_a_new_intent_from_lists(stand: Stand) -> None:
    intent = stand.pay("pm_card_visa_sandbox_lookupLag").json()["id"]
    assert intent not in [row["id"] for row in stand.get("/payment_intents")["data"]]
    stand.control("POST", "/clock", json={"advance_seconds": 6})
    assert intent in [row["id"] for row in stand.get("/payment_intents")["data"]]


def test_token_can_put_the_fault_on_a_later_refund(stand: Stand) -> None:
    form = {"metadata[payment]": "late-fault"}
    intent = stand.pay("pm_card_visa_sandbox_refundTimeoutAfterEffect", **form).json()["id"]
    with pytest.raises(httpx.ReadTimeout):
        stand.post(
            "/refunds", {"payment_intent": intent}, key="late-fault-refund", timeout=httpx.Timeout(10, read=1)
        )
    assert stand.effects("late-fault")[-1] == "refund"
    again = stand.post("/refunds", {"payment_intent": intent}, key="late-fault-refund")
    assert (again.status_code, stand.effects("late-fault").count("refund")) == (200, 1)


def test_rule_fires_only_where_and_as_often_as_it_says(stand: Stand) -> None:
    rule = stand.fault("status", "payment_intents.create", 2, {"metadata": {"payment": "ruled"}}, status=503)
    statuses = [
        stand.pay(**{"metadata[payment]": name}).status_code for name in ("ruled", "free", "ruled", "ruled")
    ]
    assert statuses == [503, 200, 503, 200]
    counters = {each["id"]: (each["seen"], each["fired"]) for each in stand.control("GET", "/faults")}
    assert counters[rule] == (3, 2)
    assert stand.control("DELETE", f"/faults/{rule}") == {"removed": 1}


def test_nth_rule_waits_for_its_call_and_refunds_match_by_the_payments_metadata(stand: Stand) -> None:
    intent = stand.pay(**{"metadata[payment]": "nth"}).json()["id"]
    stand.fault("status", "refunds.create", 1, {"metadata": {"payment": "nth"}, "nth": 2}, status=502)
    statuses = [
        stand.post("/refunds", {"payment_intent": intent, "amount": 10}).status_code for _ in range(3)
    ]
    assert statuses == [200, 502, 200]


def test_fired_faults_are_counted_by_kind(stand: Stand) -> None:
    before = stand.control("GET", "/faults/fired")["by_kind"].get("latency", 0)
    stand.fault("latency", "payment_intents.retrieve", milliseconds=1)
    intent = stand.pay().json()["id"]
    stand.get(f"/payment_intents/{intent}")
    assert stand.control("GET", "/faults/fired")["by_kind"]["latency"] == before + 1


def test_fired_refusals_are_counted_by_their_status(stand: Stand) -> None:
    before = stand.control("GET", "/faults/fired")["by_status"].get("429", 0)
    assert stand.pay("pm_card_visa_sandbox_rateLimited").status_code == 429
    assert stand.control("GET", "/faults/fired")["by_status"]["429"] == before + 1


def test_movements_can_be_neither_changed_nor_deleted(tmp_path: Path) -> None:
    with EmbeddedSandbox(SandboxConfig(port=0, data_dir=tmp_path)) as sandbox:
        stand = Stand(sandbox)
        stand.pay()
        stand.close()
    with sqlite3.connect(tmp_path / "stripe.sqlite") as connection:
        for statement in ("UPDATE movements SET amount = 1", "DELETE FROM movements"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
    connection.close()


def test_killed_sandbox_keeps_every_answered_effect_and_its_keys(tmp_path: Path) -> None:
    first = _Process(tmp_path)
    answered = [first.pay(f"key-{number}") for number in range(20)]
    first.end(signal.SIGKILL)
    second = _Process(tmp_path)
    assert [second.pay(f"key-{number}") for number in range(20)] == answered
    summary = httpx.get(f"{second.url}/control/books/summary", trust_env=False).json()
    assert summary["totals"]["capture"]["eur"] == {"count": 20, "amount": 20 * 1099}
    second.end(signal.SIGTERM)


class _Process:
    """The sandbox as `corridor up` runs it: a process of its own, told by its environment."""

    def __init__(self, data_dir: Path) -> None:
        with (data_dir / "log").open("ab") as log:
            port = str(*free_ports(1))
            environment = {
                **os.environ,
                "CORRIDOR_SANDBOX_DATA_DIR": str(data_dir),
                "CORRIDOR_SANDBOX_PORT": port,
            }
            command = [sys.executable, "-m", "corridor.sandbox", "--settlement-delay-seconds", "3600"]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)  # noqa: S603
        self.url = f"http://127.0.0.1:{port}"
        self._wait()

    def pay(self, key: str) -> str:
        form = {"amount": "1099", "currency": "eur", "confirm": "true", "payment_method": "pm_card_visa",
                "capture_method": "automatic"}  # fmt: skip
        headers = {"Authorization": "Bearer sk_test_process", "Idempotency-Key": key}
        answer = httpx.post(
            f"{self.url}/stripe/v1/payment_intents", data=form, headers=headers, trust_env=False
        )
        return str(answer.json()["id"])

    def end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.process.wait(timeout=10)

    def _wait(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx.get(f"{self.url}/control/health", trust_env=False).raise_for_status()
            except httpx.HTTPError:
                assert time.monotonic() < deadline and self.process.poll() is None
                time.sleep(0.05)
            else:
                return


def test_faults_of_tokens_can_be_switched_off(stand: Stand) -> None:
    stand.control("PUT", "/token_faults", json={"in_force": False})
    try:
        assert stand.pay("pm_card_visa_sandbox_error500", key="switched-off").status_code == 200
    finally:
        stand.control("PUT", "/token_faults", json={"in_force": True})
    assert stand.pay("pm_card_visa_sandbox_error500", key="switched-on").status_code == 500
