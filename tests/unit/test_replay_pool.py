"""Replay in processes: the golden histories against this code, and against revisions that do or do not fit them."""

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from corridor.runtime.build import SOURCE
from corridor.runtime.histories import Run, Unopened, is_closed
from corridor.runtime.keys import KeyRing
from corridor.runtime.replay import Verdict
from corridor.runtime.replay_pool import CodeUnusable, Outcome, replay_in_parallel, revision
from corridor.runtime.settings import Settings, load
from tests.replay import golden

SEND = "executed = await _send(plan, may_be_under_way)"
LOOK_FIRST = f"await look_once(plan); {SEND}"


async def _golden() -> AsyncIterator[Run]:
    for it in golden.all_of_them():
        yield Run(it.history, it.history.run_id, not is_closed(it.history))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(data_dir=tmp_path, encryption_keys=golden.RING.render())


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two revisions: this code, and one that looks an effect up before it sends it."""
    directory = tmp_path_factory.mktemp("repository")
    for package in ("corridor", "activities", "workflows", "workers"):
        shutil.copytree(SOURCE / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    _git(directory, "init", "--quiet")
    _commit(directory, "as it is")
    outcome = directory / "workflows" / "outcome.py"
    code = outcome.read_text("utf-8")
    assert code.count(SEND) == 1
    outcome.write_text(code.replace(SEND, LOOK_FIRST), "utf-8")
    _commit(directory, "looks before it sends")
    return directory


def _git(directory: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    subprocess.run(["git", "-C", str(directory), *identity, *arguments], check=True, capture_output=True)  # noqa: S603, S607


def _commit(directory: Path, what: str) -> None:
    _git(directory, "add", "--all")
    _git(directory, "commit", "--quiet", "--message", what)


async def test_golden_histories_fit_this_code_in_two_processes(settings: Settings) -> None:
    outcome = await replay_in_parallel(_golden(), settings, jobs=2)
    assert outcome.misfits == []
    assert {it.workflow_id for it in outcome.replayed} == {
        it.history.workflow_id for it in golden.all_of_them()
    }
    assert outcome.counts["fits"] == len(golden.all_of_them())


async def test_an_archived_history_under_a_lost_key_is_counted_as_not_replayable(settings: Settings) -> None:
    async def some() -> AsyncIterator[Run | Unopened]:
        yield Unopened("payment-pay_1", "run-1", "k0")
        async for run in _golden():
            yield run
            return

    outcome = await replay_in_parallel(some(), settings, jobs=1)
    (sealed,) = outcome.misfits
    assert (sealed.workflow_id, sealed.verdict) == ("payment-pay_1", Verdict.NOT_REPLAYABLE)
    assert "k0" in sealed.reason
    assert outcome.counts["fits"] == 1


async def test_a_revision_that_asks_for_other_steps_is_refused_and_the_place_is_named(
    settings: Settings, repository: Path
) -> None:
    fits, diverges = (
        await _against(settings, repository, "HEAD~1"),
        await _against(settings, repository, "HEAD"),
    )
    assert fits.misfits == []
    paid = [it for it in diverges.misfits if it.verdict is Verdict.NONDETERMINISTIC]
    assert len(paid) >= 10
    happy = next(it for it in golden.all_of_them() if it.scenario == "happy")
    (named,) = [it for it in paid if it.workflow_id == happy.history.workflow_id]
    assert (named.event_id, named.expected, named.produced) == (
        7,
        "provider.execute.v1",
        "provider.look_up.v1",
    )
    assert named.reason.startswith("[TMPRL1100] Nondeterminism error: Activity type of scheduled event")
    untouched = {it.verdict for it in diverges.replayed if it.workflow_id.startswith("settlement-")}
    assert untouched == {Verdict.FITS}


async def _against(settings: Settings, repository: Path, name: str) -> Outcome:
    with revision(name, repository) as source:
        return await replay_in_parallel(_golden(), settings, source, jobs=2)


async def test_code_that_raises_is_told_apart_from_a_key_that_is_missing(
    settings: Settings, repository: Path, tmp_path: Path
) -> None:
    with revision("HEAD~1", repository) as source:
        outcome = source / "workflows" / "outcome.py"
        outcome.write_text(outcome.read_text("utf-8").replace(SEND, 'raise ValueError("new")'), "utf-8")
        raised = await replay_in_parallel(_golden(), settings, source, jobs=2)
    assert {it.verdict for it in raised.misfits} == {Verdict.CODE_FAILS}
    assert {it.reason for it in raised.misfits} == {"the workflow code raised ValueError"}
    stranger = load(data_dir=tmp_path, encryption_keys=KeyRing.generate().render())
    sealed = await replay_in_parallel(_golden(), stranger, jobs=2)
    assert {it.verdict for it in sealed.replayed} == {Verdict.NOT_REPLAYABLE}


async def test_a_revision_that_does_not_start_is_no_verdict_on_any_history(
    settings: Settings, repository: Path
) -> None:
    with revision("HEAD~1", repository) as source:
        (source / "workflows" / "payment.py").write_text("this is no Python\n", "utf-8")
        with pytest.raises(CodeUnusable, match="SyntaxError"):
            await replay_in_parallel(_golden(), settings, source, jobs=2)


def test_a_revision_nobody_has_is_refused(repository: Path) -> None:
    with pytest.raises(CodeUnusable, match="no revision v99"), revision("v99", repository):
        pass
