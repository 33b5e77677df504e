"""The `corridor` command as a script meets it: exit codes, streams, and no traceback for a wrong environment."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from temporalio.service import RPCError, RPCStatusCode

from api.cli.temporal_says import trouble
from corridor.fx.ecb import EcbRates
from corridor.storage import revision

ROOT = Path(__file__).parents[2]


def _corridor(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 — our own program
        [sys.executable, "-m", "api.cli", *words],
        env={**os.environ, "DATABASE_URL": "", **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("words", [("--help",), ("up", "--help"), ("ledger", "verify", "--help")])
def test_help_gives_an_example_and_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    done = subprocess.run(  # noqa: S603 — our own program
        [sys.executable, "-X", "importtime", "-m", "api.cli", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "Usage" in done.stdout
    assert words == ("--help",) or "Example: corridor" in done.stdout
    heavy = {"temporalio", "sqlalchemy", "fastapi", "cryptography", "corridor.runtime.settings"}
    assert not heavy & {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


def test_the_books_of_a_new_installation_hold(tmp_path: Path) -> None:
    migrated = _corridor("migrate", "--data-dir", str(tmp_path))
    assert (migrated.returncode, migrated.stdout) == (0, ""), migrated.stderr
    verified = _corridor("ledger", "verify", "--json", "--data-dir", str(tmp_path))
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["fault_count"] == 0


def test_keys_new_prints_the_id_and_rotates(tmp_path: Path) -> None:
    assert _corridor("keys", "new", "--data-dir", str(tmp_path)).stdout == "k1\n"
    assert _corridor("keys", "new", "--data-dir", str(tmp_path)).stdout == "k2\n"
    assert set(json.loads((tmp_path / "keyring.json").read_text())["keys"]) == {"k1", "k2"}


@pytest.mark.parametrize("words", [("keys", "new"), ("keys", "add"), ("keys", "use", "k1"), ("doctor",)])
def test_a_ring_that_was_lost_is_not_made_anew_by_any_command(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "temporal.db").touch()
    done = _corridor(*words, "--data-dir", str(tmp_path))
    assert done.returncode != 0
    assert "Put the ring back from where you keep its copy" in done.stdout + done.stderr
    assert not (tmp_path / "keyring.json").exists()


def test_a_key_is_known_to_every_process_before_any_seals_with_it(tmp_path: Path) -> None:
    def ring() -> tuple[str, set[str]]:
        found = json.loads((tmp_path / "keyring.json").read_text())
        return found["current"], set(found["keys"])

    assert _corridor("keys", "use", "k1", "--data-dir", str(tmp_path)).returncode == 2
    assert list(tmp_path.iterdir()) == []
    assert _corridor("keys", "add", "--data-dir", str(tmp_path)).stdout == "k1\n"
    assert _corridor("keys", "add", "--data-dir", str(tmp_path)).stdout == "k2\n"
    assert ring() == ("k1", {"k1", "k2"})
    assert _corridor("keys", "use", "k2", "--data-dir", str(tmp_path)).stdout == "k2\n"
    assert ring() == ("k2", {"k1", "k2"})
    refused = _corridor("keys", "use", "k9", "--data-dir", str(tmp_path))
    assert (refused.returncode, ring()) == (2, ("k2", {"k1", "k2"}))
    assert "'k9' is not in the ring" in refused.stderr


def test_a_ring_kept_elsewhere_is_not_rotated_here(tmp_path: Path) -> None:
    done = _corridor("keys", "new", "--data-dir", str(tmp_path), CORRIDOR_ENCRYPTION_KEYS="{}")
    assert done.returncode == 5
    assert list(tmp_path.iterdir()) == []


def test_an_unusable_environment_is_one_line(tmp_path: Path) -> None:
    done = _corridor("doctor", CORRIDOR_MODE="live")
    assert done.returncode == 2
    assert done.stderr.startswith("corridor: settings: ")
    assert len(done.stderr.splitlines()) == 1


def test_doctor_says_what_is_wrong_and_fails(tmp_path: Path) -> None:
    done = _corridor("doctor", "--json", "--data-dir", str(tmp_path), TEMPORAL_ADDRESS="127.0.0.1:1")
    assert done.returncode == 1
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert findings["disk"]["ok"]
    assert findings["Temporal"]["detail"].startswith(
        "127.0.0.1:1, namespace default: Temporal cannot be reached"
    )


def _doctor(directory: Path, check: str, **environment: str) -> tuple[bool, str]:
    own = {"TEMPORAL_ADDRESS": "127.0.0.1:1", **environment}
    done = _corridor("doctor", "--json", "--data-dir", str(directory), **own)
    assert done.stderr == ""
    (found,) = [finding for finding in json.loads(done.stdout) if finding["check"] == check]
    return found["ok"], found["detail"]


def test_doctor_holds_the_schema_against_what_this_code_needs(tmp_path: Path) -> None:
    path = tmp_path / "corridor.db"
    path.touch()
    assert _doctor(tmp_path, "database") == (False, "it was never migrated; run: corridor migrate")
    assert _corridor("migrate", "--data-dir", str(tmp_path)).returncode == 0
    newest = revision.known()[0]
    assert _doctor(tmp_path, "database") == (True, f"schema {newest}")
    for version, found in (
        ("0003", (False, f"schema 0003, this code needs {newest}; run: corridor migrate")),
        ("9999", (True, f"schema 9999, newer than this code's {newest}")),
    ):
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
        assert _doctor(tmp_path, "database") == found


def test_doctor_says_that_no_rate_is_young_enough_and_what_to_do(tmp_path: Path) -> None:
    ok, detail = _doctor(tmp_path, "reference rates", CORRIDOR_RATE_MAX_AGE_HOURS="1")
    assert not ok
    assert "conversions are refused until a worker has downloaded newer ones" in detail
    newest = EcbRates().newest_day().isoformat()
    assert _doctor(tmp_path, "reference rates", CORRIDOR_MARKET_DAY=newest)[0]


def test_doctor_knows_the_rates_that_were_downloaded(tmp_path: Path) -> None:
    assert _corridor("migrate", "--data-dir", str(tmp_path)).returncode == 0
    today = datetime.now(UTC).date().isoformat()
    with contextlib.closing(sqlite3.connect(tmp_path / "corridor.db")) as connection, connection:
        connection.execute("INSERT INTO reference_rates VALUES ('ECB', ?, 'USD', '1.1310')", (today,))
    assert _doctor(tmp_path, "reference rates") == (
        True,
        f"market day: today; the newest known rates are of {today}",
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RPCError("no rights here", RPCStatusCode.PERMISSION_DENIED, b""),
            "refuses these credentials: no rights",
        ),
        (
            RPCError("namespace payments", RPCStatusCode.NOT_FOUND, b""),
            "does not know it: namespace payments",
        ),
        (RPCError("tcp connect error", RPCStatusCode.UNAVAILABLE, b""), "cannot be reached: tcp connect"),
        (RuntimeError("Failed client connect: Status { code: Unauthenticated"), "refuses these credentials"),
        (RuntimeError("Failed client connect: tcp connect error"), "cannot be reached"),
    ],
)
def test_a_temporal_that_says_no_is_not_one_that_is_away(error: RPCError | RuntimeError, words: str) -> None:
    assert trouble(error).startswith(f"Temporal {words}")


def test_replaying_a_missing_directory_is_not_found(tmp_path: Path) -> None:
    assert _corridor("history", "replay", str(tmp_path / "none")).returncode == 3


def test_an_unknown_command_is_a_usage_error() -> None:
    assert _corridor("pay").returncode == 2
