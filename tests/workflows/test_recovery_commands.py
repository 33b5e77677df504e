"""`corridor timeline` and `corridor whatif` as an operator runs them: exit codes, one document, words on stderr."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from api.cli import timeline, whatif
from api.cli.exit_codes import ExitCode
from corridor.domain.ids import Prefix, new_id
from corridor.runtime.ports import on_free_ports
from corridor.runtime.settings import load
from tests.workflows.world import World, now

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """Settings of a machine that reaches the database and finds nobody at Temporal's address."""
    free = on_free_ports(load(data_dir=tmp_path))
    return {"data_dir": tmp_path, "temporal_port": free.temporal_port}


async def test_a_timeline_is_told_without_temporal_and_says_so(
    here: World, given: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    payment = await here.pay()
    code = await asyncio.to_thread(timeline.run, given, payment.id, "2", as_json=False)
    printed = capsys.readouterr()
    assert code is ExitCode.OK
    assert "Temporal cannot be reached" in printed.err
    assert "#2 payment.captured: processing → captured" in printed.out
    assert "caused by      provider: stripe on sale:1: approved" in printed.out
    assert not any(line != line.rstrip() for line in printed.out.splitlines())


async def test_a_timeline_is_one_json_document(
    here: World, given: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    payment = await here.pay()
    assert await asyncio.to_thread(timeline.run, given, payment.id, "2", as_json=True) is ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    assert document["history"]["joined"] is False
    assert document["moment"]["cause"]["actor"] == "provider"
    assert document["moment"]["payment"]["status"] == "captured"


@pytest.mark.parametrize("at", [None, "7", "evt_nobody"])
async def test_what_is_not_there_is_not_found(
    here: World, given: dict[str, Any], capsys: pytest.CaptureFixture[str], at: str | None
) -> None:
    payment_id = (await here.pay()).id if at is not None else new_id(Prefix.PAYMENT, now())
    assert await asyncio.to_thread(timeline.run, given, payment_id, at, as_json=True) is ExitCode.NOT_FOUND
    printed = capsys.readouterr()
    assert printed.out == ""
    assert (at or payment_id) in printed.err


async def test_a_what_if_reports_and_shows_that_its_records_hold(
    here: World, given: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payment = await here.pay()
    policy = tmp_path / "tighter.toml"
    policy.write_text('[limits]\nreview_above_eur = "60.00"\nmaximum_eur = "60.00"\n', "utf-8")
    code = await asyncio.to_thread(whatif.run, given, policy, "1h", None, as_json=False)
    out = capsys.readouterr().out
    assert code is ExitCode.OK
    assert f"{payment.id}  100.00 EUR, captured: changed" in out
    assert "amount.maximum_eur: 100.00 EUR against 60.00 EUR" in out
    assert "0 unfaithful" in out
    assert await asyncio.to_thread(whatif.run, given, policy, "1h", None, as_json=True) is ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    assert document["difference_minor"]["EUR"] == {"collected": -10_000}
    assert document["faithful"]["unfaithful_count"] == 0


async def test_a_what_if_without_a_usable_file_or_time_is_refused(
    given: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, sound = tmp_path / "broken.toml", tmp_path / "sound.toml"
    broken.write_text("[fx]\nmarkup = 3\n", "utf-8")
    sound.write_text("[fx]\nmarkup_bps = 3\n", "utf-8")
    missing = tmp_path / "missing.toml"
    cases = (
        (broken, "1h", ExitCode.USAGE),
        (sound, "soon", ExitCode.USAGE),
        (missing, "1h", ExitCode.NOT_FOUND),
    )
    for policy, since, expected in cases:
        assert await asyncio.to_thread(whatif.run, given, policy, since, None, as_json=True) is expected
    assert capsys.readouterr().out == ""
