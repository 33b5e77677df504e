"""Build 2 is deployed while build 1 has payments in flight: each payment ends on the build it began on, and once."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client

from corridor.runtime.build import SOURCE, source_digest
from tests.e2e.installation import Installation, captures, payments
from tests.e2e.second_build import SecondBuild
from workers.builds import deployment
from workflows import names

PREPARE = "            prepared = await prepare(self.state, self.approved_review)\n"
A_STEP_MORE = (
    '            await workflow.sleep(timedelta(milliseconds=10), summary="build 2: a step more")\n' + PREPARE
)
EACH = 3


@pytest.fixture
def second(installation: Installation, tmp_path: Path) -> Iterator[SecondBuild]:
    """The same product with one more step at the beginning of a payment: no history of build 1 fits it."""
    build = SecondBuild(installation, tmp_path)
    build.change("workflows/payment.py", PREPARE, A_STEP_MORE)
    yield build
    build.stop_worker()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_payments_in_flight_end_on_their_build_and_new_ones_begin_on_the_next(
    installation: Installation, second: SecondBuild
) -> None:
    installation.up()
    first_build = source_digest(SOURCE)
    shop = Shop(installation)
    old = [shop.authorize(f"old-{number}") for number in range(EACH)]

    second.start_worker()
    assert shown_by(second) == {first_build: "current", second.build_id: "waiting"}
    assert second.corridor("deploy", "adopt", first_build).returncode == 5, "its workers still run"
    between = shop.authorize("between")
    refused_by_the_gate(second, old)

    promoted = second.corridor("deploy", "promote")
    while "not every queue has heard" in promoted.stderr:
        promoted = second.corridor("deploy", "promote")
    assert promoted.returncode == 0, promoted.stderr
    assert f"build {first_build} still carries" in promoted.stdout
    new = [shop.authorize(f"new-{number}") for number in range(EACH)]

    for payment_id in [*old, between, *new]:
        shop.capture(payment_id)
    shop.until("settled", *old, between, *new)
    assert len(shop.rows()) == 2 * EACH + 1
    assert captures(installation) == dict.fromkeys([*old, between, *new], 1)
    served = asyncio.run(served_by(installation, [*old, between, *new], until_drained=first_build))
    assert [served[payment_id] for payment_id in [*old, between]] == [{first_build}] * (EACH + 1)
    assert [served[payment_id] for payment_id in new] == [{second.build_id}] * EACH
    assert on_record(second)[:1] == [("deploy adopt", "failed: conflict", first_build)]
    assert on_record(second)[-1] == ("deploy promote", "ok", second.build_id)


def on_record(second: SecondBuild) -> list[tuple[str, str, str]]:
    """Each act of an operator on builds, and how it ended."""
    acts = json.loads(second.corridor("operator", "log", "--json").stdout)["acts"]
    return [
        (it["command"], it["outcome"], it["words"].get("build") or it["words"]["from_build"])
        for it in acts
        if it["command"].startswith("deploy")
    ]


def shown_by(second: SecondBuild) -> dict[str, str]:
    """The state of each build, as an operator reads it."""
    shown = second.corridor("deploy", "status", "--json")
    assert shown.returncode == 0, shown.stderr
    return {build["build_id"]: build["state"] for build in json.loads(shown.stdout)["builds"]}


def refused_by_the_gate(second: SecondBuild, in_flight: list[str]) -> None:
    """Without pinning those payments would go over to build 2, and each would be stuck: the replay gate says so."""
    replayed = second.corridor("history", "replay", "--query", 'WorkflowType = "Payment"')
    assert replayed.returncode == 1, replayed.stdout + replayed.stderr
    for payment_id in in_flight:
        assert f"nondeterministic: {names.payment_workflow_id(payment_id)}" in replayed.stdout


class Shop:
    """A merchant who authorises first and captures later, so that its payments are in flight in between."""

    def __init__(self, here: Installation) -> None:
        self._here = here
        self._key = here.merchant_key()

    def authorize(self, reference: str) -> str:
        """Returns the id of an authorised payment."""
        body = {
            "amount": {"minor": 10_000, "currency": "EUR"},
            "capture": "manual",
            "payment_method": {
                "type": "card",
                "provider_token": "pm_card_visa",
                "fingerprint": f"card-{reference}",
            },
            "buyer": {"country": "DE", "reference": reference},
        }
        payment_id = str(self._post("/v1/payments", body, reference)["id"])
        self.until("authorized", payment_id)
        return payment_id

    def capture(self, payment_id: str) -> None:
        self._post(f"/v1/payments/{payment_id}:capture", {}, f"capture-{payment_id}")

    def until(self, status: str, *payment_ids: str) -> None:
        """A busy machine may take longer than the API waits, so the answer is not relied upon."""
        deadline = time.monotonic() + 40
        while {row["id"]: row["status"] for row in self.rows() if row["id"] in payment_ids} != dict.fromkeys(
            payment_ids, status
        ):
            assert time.monotonic() < deadline, self.rows()
            time.sleep(0.3)

    def rows(self) -> list[dict[str, Any]]:
        """Every payment of the shop."""
        return payments(self._here, self._key)

    def _post(self, path: str, body: dict[str, Any], key: str) -> dict[str, Any]:
        answer = httpx.post(
            f"{self._here.settings.api_address}{path}",
            json=body,
            headers={"Authorization": f"Bearer {self._key}", "Idempotency-Key": key},
            timeout=20,
            trust_env=False,
        )
        found: dict[str, Any] = answer.raise_for_status().json()
        return found


async def served_by(here: Installation, payment_ids: list[str], until_drained: str) -> dict[str, set[str]]:
    """By payment, every build that completed a task of its workflow; returns once nothing is pinned to that one."""
    client = await Client.connect(f"{here.settings.host}:{here.settings.temporal_port}")
    async with asyncio.timeout(20):
        while (await client.count_workflows(deployment.pinned_to(until_drained))).count:
            await asyncio.sleep(0.3)
    found = {}
    for payment_id in payment_ids:
        history = await client.get_workflow_handle(names.payment_workflow_id(payment_id)).fetch_history()
        done = [event.workflow_task_completed_event_attributes for event in history.events]
        found[payment_id] = {
            task.deployment_version.build_id for task in done if task.deployment_version.build_id
        }
    return found
