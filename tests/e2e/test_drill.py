"""The drill as an operator runs it: the platform database is gone or old, and the histories bring it back in full."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CORRIDOR = [sys.executable, "-m", "api.cli.main"]
ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(400)
def test_a_lost_database_comes_back_from_histories_with_nothing_lost_and_nothing_twice(
    tmp_path: Path,
) -> None:
    disaster = drilled("database-lost", tmp_path, {})
    assert disaster["unknown_after_damage"] == disaster["acknowledged"], (
        "the disaster took what clients were told of"
    )
    assert disaster["recovery"]["counts"]["payment_missing"] >= disaster["acknowledged"]
    page = (tmp_path / "kept" / "drill.html").read_text("utf-8")
    assert not re.findall(r"(?:src|href)=|<script|@import|url\(", page), "the page fetches nothing"
    assert page.count("</tr>") > disaster["purchases"]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_postgresql_backup_is_restored_and_what_it_lacks_comes_back(
    tmp_path: Path, postgres_url: str
) -> None:
    """Taken with pg_dump under load, put into a fresh database by pg_restore; the struck one is never looked at."""
    disaster = drilled("database-restored", tmp_path, {"DATABASE_URL": postgres_url})
    assert 0 < disaster["unknown_after_damage"] <= disaster["acknowledged"]
    assert disaster["recovery"]["counts"]["events_missing"] > 0


def drilled(scenario: str, directory: Path, extra: dict[str, str]) -> dict[str, Any]:
    """What the drill reports; every proof in it holds, and a second look finds nothing more."""
    words = ["--scenario", scenario, "--payments", "20", "--report", str(directory / "kept"), "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    with (directory / "drill.log").open("wb") as log:
        done = subprocess.run(  # noqa: S603
            [*CORRIDOR, "drill", *words],
            cwd=ROOT,
            env={**environment, "TMPDIR": str(directory), **extra},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            check=False,
        )
    told = (directory / "drill.log").read_text("utf-8")
    assert done.returncode == 0, done.stdout.decode() + told
    (disaster,) = json.loads(done.stdout)["disasters"]
    assert disaster["acknowledged"] > 0
    assert disaster["recovery"]["second_run"] == []
    assert (disaster["rpo_payments"], disaster["rpo_events"]) == ([], [])
    assert (disaster["duplicated"], disaster["lost"], disaster["effects_by_recovery"]) == ([], [], 0)
    return dict(disaster)
