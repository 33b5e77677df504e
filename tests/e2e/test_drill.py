"""The drill as an operator runs it: the platform database is gone, and the histories bring it back in full."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CORRIDOR = [sys.executable, "-m", "api.cli.main"]
ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(400)
def test_a_lost_database_comes_back_from_histories_with_nothing_lost_and_nothing_twice(
    tmp_path: Path,
) -> None:
    words = ["--scenario", "database-lost", "--payments", "20", "--report", str(tmp_path / "kept"), "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    with (tmp_path / "drill.log").open("wb") as log:
        done = subprocess.run(  # noqa: S603
            [*CORRIDOR, "drill", *words],
            cwd=ROOT,
            env={**environment, "TMPDIR": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            check=False,
        )
    told = (tmp_path / "drill.log").read_text("utf-8")
    assert done.returncode == 0, done.stdout.decode() + told
    (disaster,) = json.loads(done.stdout)["disasters"]
    assert disaster["acknowledged"] > 0
    assert disaster["unknown_after_damage"] == disaster["acknowledged"], (
        "the disaster took what clients were told of"
    )
    assert disaster["recovery"]["counts"]["payment_missing"] >= disaster["acknowledged"]
    assert disaster["recovery"]["second_run"] == []
    assert (disaster["rpo_payments"], disaster["rpo_events"]) == ([], [])
    assert (disaster["duplicated"], disaster["lost"], disaster["effects_by_recovery"]) == ([], [], 0)
    page = (tmp_path / "kept" / "drill.html").read_text("utf-8")
    assert not re.findall(r"(?:src|href)=|<script|@import|url\(", page), "the page fetches nothing"
    assert page.count("</tr>") > disaster["purchases"]
