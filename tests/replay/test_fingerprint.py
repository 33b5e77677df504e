"""The fingerprint check: the workflow code is the committed one, and each way of changing it unnoticed is closed."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from activities.contracts import EffectPlan, Executed
from corridor.runtime import build
from corridor.runtime.build import SOURCE
from corridor.runtime.replay import Verdict
from tests.replay import fingerprint, golden, watching
from tests.replay.fingerprint import Difference, Fingerprint, compare
from workflows import outcome, steps

pytestmark = pytest.mark.asyncio(loop_scope="session")

HISTORIES = golden.all_of_them()
FOUND = [history for history in HISTORIES if history.scenario == "unknown_found"]
Changed = Callable[[str, str, str], Path]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def here() -> Fingerprint:
    """The fingerprint of the code at hand."""
    return await fingerprint.taken(HISTORIES)


@pytest.fixture
def changed(tmp_path: Path) -> Changed:
    """A copy of the source with one text, which is there once, replaced by another on the same line."""

    def change(file: str, old: str, new: str) -> Path:
        for package in ("corridor", "workflows", "activities", "workers"):
            shutil.copytree(
                SOURCE / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        text = (tmp_path / file).read_text("utf-8")
        assert text.count(old) == 1
        (tmp_path / file).write_text(text.replace(old, new), "utf-8")
        return tmp_path

    return change


async def test_the_workflow_code_is_the_one_on_file(here: Fingerprint) -> None:
    found = compare(fingerprint.committed(), here)
    assert not found, str(found)


# --- commands ------------------------------------------------------------------------------------------------


async def test_reordered_commands_are_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    send = outcome._send

    async def look_then_send(plan: EffectPlan, may_be_under_way: bool) -> Executed | None:
        await outcome.look_once(plan)
        return await send(plan, may_be_under_way)

    monkeypatch.setattr(outcome, "_send", look_then_send)
    (said,) = (await _against_the_file()).broken
    assert "Payment/v1/unknown_found: command 3" in said
    assert "was: schedule_activity provider.execute.v1" in said
    assert "now: schedule_activity provider.look_up.v1" in said
    assert "workflow.patched" in said and "golden.VERSION" in said


async def test_a_changed_timeout_is_caught_although_the_history_replays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(steps, "LOOK_UP_TIMEOUT", timedelta(seconds=31))
    assert (await watching.watch(FOUND[0].history)).verdict.verdict is Verdict.FITS  # type: ignore[union-attr]
    (said,) = (await _against_the_file()).broken
    assert "startToCloseTimeout=30s" in said and "startToCloseTimeout=31s" in said


async def test_a_summary_is_for_people_and_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    look = outcome.steps.look
    monkeypatch.setattr(
        outcome.steps, "look", lambda step, given, plan, _: look(step, given, plan, "said otherwise")
    )
    assert not await _against_the_file()


async def test_a_step_added_to_the_source_fails_the_command_line_check(changed: Changed) -> None:
    """As CI runs it, on a tree in which a payment takes one step more."""
    line = "            prepared = await prepare(self.state, self.approved_review)"
    tree = changed("workflows/payment.py", line, f"            await workflow.sleep(1)\n{line}")
    for part in ("replay", "histories"):
        shutil.copytree(SOURCE / "tests" / part, tree / "tests" / part)
    for command in ([], ["--write", "--because", "it is only a pause"]):
        checked = subprocess.run(  # noqa: S603, ASYNC221 — nothing else runs on this loop
            [sys.executable, "-m", "tests.replay.fingerprint", *command],
            cwd=tree, env={"PYTHONPATH": str(tree)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert checked.returncode == 1, checked.stderr
        assert "Payment/v1/happy: command 2 is another one now" in checked.stderr


async def _against_the_file() -> Difference:
    """What the file says about the one history, and the code as it is now patched."""
    names = {history.name for history in FOUND}
    old = fingerprint.committed()
    commands = {name: commands for name, commands in old.commands.items() if name in names}
    now = await fingerprint.taken(FOUND)
    return compare(Fingerprint(commands, {}), Fingerprint(now.commands, {}))


# --- where no history looks ----------------------------------------------------------------------------------


async def test_a_change_that_no_history_reaches_needs_a_history_or_a_reason(
    here: Fingerprint, changed: Changed
) -> None:
    tree = changed(
        "workflows/payment_state.py",
        "[names.NEEDS_REVIEW.value_set(True)]",
        "[names.NEEDS_REVIEW.value_set(False)]",
    )
    after = await fingerprint.taken(HISTORIES, tree)
    found = compare(here, after)
    (said,) = found.unvouched
    assert said.startswith("workflows.payment_state:PaymentState.show_overdue: changed")
    assert "workflow.upsert_search_attributes" in said
    assert "scenarios.py" in said and "--because" in said
    assert found.broken == []

    told = fingerprint.accepted(fingerprint.committed(), after, "overdue is no review any more")
    assert not compare(told, after)
    reasons = {name for name, one in told.uncovered.items() if one.because == "overdue is no review any more"}
    assert reasons == {"workflows.payment_state:PaymentState.show_overdue"}


async def test_a_changed_constant_needs_a_reason(here: Fingerprint, changed: Changed) -> None:
    tree = changed("workflows/undo.py", "UNDO_RETRY_SECONDS = (5, 60, 300)", "UNDO_RETRY_SECONDS = (5, 60)")
    (said,) = compare(here, await fingerprint.taken(HISTORIES, tree)).unvouched
    assert said.startswith("workflows.undo:<constants>: changed")


async def test_comments_docstrings_and_layout_change_neither_fingerprint_nor_build_id(
    here: Fingerprint, changed: Changed
) -> None:
    tree = changed(
        "workflows/payment.py",
        "    async def _undo_again(self) -> None:\n",
        "    async def _undo_again(self,) -> None:  # once more\n",
    )
    assert not compare(here, await fingerprint.taken(HISTORIES, tree))
    assert build.source_digest(tree) == build.source_digest(SOURCE)


async def test_a_golden_history_does_not_disappear_without_a_word(here: Fingerprint) -> None:
    (said,) = compare(here, Fingerprint({**here.commands, "Payment/v0/happy": ()}, here.uncovered)).stale
    assert "new golden history" in said
    (said,) = compare(Fingerprint({**here.commands, "Payment/v0/happy": ()}, here.uncovered), here).unvouched
    assert "the golden history is gone" in said


async def test_every_accepted_gap_has_its_reason() -> None:
    assert [name for name, one in fingerprint.committed().uncovered.items() if not one.because] == []


# --- the build id --------------------------------------------------------------------------------------------


async def test_a_changed_step_is_another_build(changed: Changed) -> None:
    tree = changed(
        "workflows/steps.py", "LOCAL_TIMEOUT = timedelta(seconds=10)", "LOCAL_TIMEOUT = timedelta(seconds=9)"
    )
    assert build.source_digest(tree) != build.source_digest(SOURCE)


async def test_a_corrected_adapter_is_the_same_build_and_reaches_payments_of_every_age(
    changed: Changed,
) -> None:
    tree = changed(
        "corridor/providers/stripe/adapter.py", "class StripeProvider", "class StripeProviderAgain"
    )
    assert build.source_digest(tree) == build.source_digest(SOURCE)


async def test_the_build_id_names_all_that_the_workflows_import() -> None:
    """In a process of its own: this one has long imported everything."""
    program = (
        "import json, sys\n"
        "from workflows import payment, refund, settlement, webhook_delivery\n"
        "print(json.dumps([m.__file__ for n, m in sys.modules.items() if m.__name__.split('.')[0] in "
        "('corridor', 'workflows', 'activities', 'workers', 'api') and m.__file__]))\n"
    )
    ran = subprocess.run(  # noqa: S603, ASYNC221 — as above
        [sys.executable, "-c", program], cwd=SOURCE, capture_output=True, text=True, check=True
    )
    imported = {Path(file) for file in json.loads(ran.stdout)}
    code = {file for file in imported if len(ast.parse(file.read_bytes()).body) > 1}
    assert code - set(build.protocol_files(SOURCE)) == set()
    assert imported & {SOURCE / file for file in build.BESIDES} == set()
