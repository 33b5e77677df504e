"""Every command that changes something is on record: who, when, what, how it ended; also when it failed or died."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from api.cli.acts import whoever_runs_this
from corridor.runtime.ports import free_ports

ROOT = Path(__file__).parents[2]
MERCHANT = ("merchant", "create", "Lantern & Loom", "--country", "CN", "--settle", "CNY", "--json")


class Operator:
    """Gives commands to an installation in a directory; nobody is at Temporal's address."""

    def __init__(self, data_dir: Path, database_url: str) -> None:
        self.data_dir = data_dir
        self.environment = {
            **os.environ,
            "CORRIDOR_DATA_DIR": str(data_dir),
            "DATABASE_URL": database_url,
            "TEMPORAL_ADDRESS": f"127.0.0.1:{free_ports(1)[0]}",
            "PYTHONPATH": str(ROOT),
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603 — our own program
            [sys.executable, "-m", "api.cli", *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def corridor(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def acts(self) -> list[dict[str, Any]]:
        code, out, err = self.corridor("operator", "log", "--json")
        assert code == 0, err
        found: list[dict[str, Any]] = json.loads(out)["acts"]
        return found


@pytest.fixture
def operator(tmp_path: Path, sqlite_database: str) -> Operator:
    return Operator(tmp_path / "data", sqlite_database)


def test_what_is_made_is_on_record_and_no_secret_of_it(tmp_path: Path, database_url: str) -> None:
    operator = Operator(tmp_path / "data", database_url)
    code, made, err = operator.corridor(*MERCHANT, "--operator", "alice")
    assert code == 0, err
    operator.environment["CORRIDOR_OPERATOR"] = "bob"
    _, key, _ = operator.corridor("operator", "create", "--json")
    merchant, colleague = operator.acts()
    assert (merchant["who"], merchant["command"], merchant["outcome"]) == ("alice", "merchant create", "ok")
    assert merchant["words"]["id"] == json.loads(made)["merchant"]
    assert merchant["words"]["name"] == "Lantern & Loom"
    assert merchant["at"] <= merchant["finished_at"]
    assert (colleague["who"], colleague["command"], colleague["outcome"]) == ("bob", "operator create", "ok")
    for act, text in ((merchant, made), (colleague, key)):
        name = act["result"]["api_key"].removeprefix("key_")
        secret = json.loads(text)["api_key"].partition(name)[2]
        assert len(secret) > 40
        assert secret.strip("_") not in json.dumps(act)


def test_whoever_gives_no_name_is_the_user_of_the_machine(operator: Operator) -> None:
    operator.environment |= {"USER": "mallory", "LOGNAME": "mallory"}
    operator.corridor("operator", "create")
    (act,) = operator.acts()
    assert act["who"] == whoever_runs_this()
    assert "mallory" not in act["who"]


def test_a_key_of_the_ring_is_on_record_by_its_id(operator: Operator) -> None:
    assert operator.corridor("keys", "new")[0] == 0
    assert operator.corridor("keys", "new")[0] == 0
    acts = operator.acts()
    assert [(it["command"], it["outcome"], it["result"]) for it in acts] == [
        ("keys new", "ok", {"key": "k1"}),
        ("keys new", "ok", {"key": "k2"}),
    ]
    ring = json.loads((operator.data_dir / "keyring.json").read_text("utf-8"))
    assert not any(key in json.dumps(acts) for key in ring["keys"].values())


@pytest.mark.parametrize(
    ("words", "recorded"),
    [
        (("resume",), {}),
        (("deploy", "promote", "--build", "b2", "--force"), {"build": "b2", "force": True}),
        (("deploy", "adopt", "b1", "--force"), {"from_build": "b1", "force": True}),
        (("restore-check", "--repair", "--since", "2026-11-01", "--force"),
         {"repair": True, "force": True, "since": "2026-11-01T00:00:00+00:00"}),
    ],
    ids=lambda it: " ".join(it[:2]) if isinstance(it, tuple) else "",
)  # fmt: skip
def test_a_command_that_failed_is_on_record_too(
    operator: Operator, words: tuple[str, ...], recorded: dict[str, Any]
) -> None:
    operator.corridor("keys", "new")
    code, _, err = operator.corridor(*words)
    assert code == 7, err
    act = operator.acts()[-1]
    assert words[: len(act["command"].split())] == tuple(act["command"].split())
    assert act["outcome"] == "failed: runtime_error"
    assert recorded.items() <= act["words"].items()


def test_a_repair_of_only_some_workflows_is_refused_and_changes_nothing(operator: Operator) -> None:
    operator.corridor("keys", "new")
    code, _, err = operator.corridor("restore-check", "--repair", "--query", 'StartTime > "2026-11-01"')
    assert code == 2, err
    assert "Nothing was changed" in " ".join(err.replace("│", " ").split())
    assert [it["command"] for it in operator.acts()] == ["keys new"]


def test_what_only_looks_is_no_act(operator: Operator) -> None:
    operator.corridor("keys", "new")
    for words in (("ledger", "verify"), ("restore-check",), ("deploy", "status"), ("operator", "log")):
        operator.corridor(*words)
    assert [it["command"] for it in operator.acts()] == ["keys new"]


def test_a_command_that_is_killed_leaves_an_act_without_an_end(operator: Operator) -> None:
    operator.corridor("keys", "new")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        operator.environment["TEMPORAL_ADDRESS"] = f"127.0.0.1:{silent.getsockname()[1]}"
        process = operator.start("resume")
        deadline = time.monotonic() + 30
        while len(acts := operator.acts()) < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
        process.kill()
        process.communicate()
    (_, begun) = acts
    assert (begun["command"], begun["outcome"], begun["finished_at"]) == ("resume", None, None)
    assert operator.acts()[-1] == begun
    assert "BEGUN" in operator.corridor("operator", "log")[1].splitlines()[-1]


def test_the_migration_that_makes_the_record_is_the_first_on_it(tmp_path: Path) -> None:
    operator = Operator(tmp_path, "")
    assert operator.corridor("operator", "log")[0] == 3
    assert operator.corridor("migrate")[0] == 0
    assert operator.corridor("migrate", "--operator", "alice")[0] == 0
    first, second = operator.acts()
    assert (first["command"], first["outcome"]) == (second["command"], second["outcome"]) == ("migrate", "ok")
    assert second["who"] == "alice"
    assert len(operator.corridor("operator", "log", "--since", "1h")[1].splitlines()) == 2
    assert operator.corridor("operator", "log", "--since", second["finished_at"])[1] == ""


def test_what_cannot_be_recorded_is_not_done(operator: Operator, tmp_path: Path) -> None:
    operator.corridor("keys", "new")
    ring = (operator.data_dir / "keyring.json").read_text("utf-8")
    operator.environment["DATABASE_URL"] = f"postgresql://nobody@127.0.0.1:{free_ports(1)[0]}/none"
    for words in (("keys", "new"), ("deploy", "promote", "--force"), ("resume",), MERCHANT):
        code, out, err = operator.corridor(*words)
        assert (code, out) == (7, ""), err
        assert "the database cannot be reached" in err
    assert (operator.data_dir / "keyring.json").read_text("utf-8") == ring
    operator.environment["DATABASE_URL"] = f"sqlite:///{tmp_path / 'older.db'}"
    code, out, err = operator.corridor("deploy", "promote", "--force")
    assert (code, out) == (2, "")
    assert "corridor migrate" in err


def test_a_rebuild_is_on_record_in_the_database_it_made(operator: Operator, tmp_path: Path) -> None:
    operator.corridor("keys", "new")
    (tmp_path / "empty").mkdir()
    into = tmp_path / "rebuilt.db"
    code, out, err = operator.corridor(
        "ledger", "rebuild", "--from", str(tmp_path / "empty"), "--into", str(into)
    )
    assert code == 0, (out, err)
    assert [it["command"] for it in operator.acts()] == ["keys new"]
    operator.environment["DATABASE_URL"] = f"sqlite:///{into}"
    (act,) = operator.acts()
    assert (act["command"], act["outcome"]) == ("ledger rebuild", "ok")
    assert act["words"]["into"].endswith("rebuilt.db")
