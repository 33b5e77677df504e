"""`corridor up` as its user runs it, on a data directory of its own, and a careful merchant's backend to drive it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psutil

from corridor.runtime.settings import Settings

CORRIDOR = [sys.executable, "-m", "api.cli.main"]
TOKENS = ("pm_card_visa", "pm_card_visa_sandbox_timeoutAfterEffect", "pm_card_visa_sandbox_slow")


class Installation:
    """`corridor up` as a child process on a data directory of its own."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.settings = settings
        self.log = directory / "up.log"
        self.environment = {
            **os.environ,
            **settings.environment(),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def up(self, extra: Mapping[str, str] = MappingProxyType({})) -> float:
        """Start, with `extra` in its environment; returns the seconds until it was ready."""
        return self._start(f"{self.settings.api_address}/readyz", extra)

    def up_held(self) -> float:
        """Start without workers and API."""
        return self._start(f"{self.settings.sandbox_address}/control/health", {}, "--hold")

    def _start(self, sign: str, extra: Mapping[str, str], *words: str) -> float:
        begun = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603
                [*CORRIDOR, "up", *words],
                env={**self.environment, **extra},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        while not _answers(sign):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() - begun < 60, self.log.read_text()
            time.sleep(0.1)
        return time.monotonic() - begun

    def kill_everything(self) -> None:
        """-9 to the supervisor and to every process it started, at once."""
        assert self.process is not None
        family = [
            self.process.pid,
            *(child.pid for child in psutil.Process(self.process.pid).children(recursive=True)),
        ]
        for pid in family:
            kill_if_alive(pid)
        self.process.wait(10)

    def down(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(40)

    def merchant_key(self) -> str:
        made = subprocess.run(  # noqa: S603
            [
                *CORRIDOR,
                "merchant",
                "create",
                "Lantern & Loom",
                "--country",
                "CN",
                "--settle",
                "CNY",
                "--json",
            ],
            env=self.environment,
            capture_output=True,
            check=True,
        )
        return str(json.loads(made.stdout)["api_key"])


def _answers(url: str) -> bool:
    try:
        ready = httpx.get(url, timeout=1, trust_env=False)
    except httpx.HTTPError:
        return False
    return ready.is_success


def kill_if_alive(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def order(here: Installation, key: str, number: int) -> httpx.Response | None:
    """Post one order as a careful backend does: the same key again is safe, so a lost answer is no problem."""
    body = {
        "amount": {"minor": 5_000 + number, "currency": "EUR"},
        "payment_method": {
            "type": "card",
            "provider_token": TOKENS[number % 3],
            "fingerprint": f"card-{number}",
        },
        "buyer": {"country": "DE", "reference": f"buyer-{number}"},
        "metadata": {"number": str(number)},
    }
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": f"order-{number}"}
    try:
        return httpx.post(
            f"{here.settings.api_address}/v1/payments",
            json=body,
            headers=headers,
            timeout=20,
            trust_env=False,
        )
    except httpx.HTTPError:
        return None


def until_answered(here: Installation, key: str, number: int) -> dict[str, Any]:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        answer = order(here, key, number)
        if answer is not None and answer.status_code == 201:
            found: dict[str, Any] = answer.json()
            return found
        time.sleep(1)
    raise AssertionError(f"order {number} was never answered")


def payments(here: Installation, key: str) -> list[dict[str, Any]]:
    answer = httpx.get(
        f"{here.settings.api_address}/v1/payments?limit=100",
        headers={"Authorization": f"Bearer {key}"},
        timeout=10,
        trust_env=False,
    )
    found: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
    return found


def captures(here: Installation) -> Counter[str]:
    """How often each payment was captured, by the sandbox's own books."""
    rows = httpx.get(
        f"{here.settings.sandbox_address}/control/books?limit=1000&effect=capture",
        timeout=10,
        trust_env=False,
    ).json()["data"]
    return Counter(row["metadata"]["corridor_payment"] for row in rows)
