"""`corridor restore-check` as an operator runs it: beside nobody, and with an archive where the server forgot."""

import asyncio
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest, PollWorkflowTaskQueueRequest

from api.cli import restore_check
from api.cli.exit_codes import ExitCode
from api.cli.restore_check import Wanted
from corridor.runtime.histories import Run, of_workflows
from corridor.runtime.keys import KeyRing
from corridor.storage import operator_acts, payments
from corridor.storage.database import DatabaseUnavailable
from corridor.storage.sealing import Sealer
from tests.workflows.earlier import copy_of, on, rows
from tests.workflows.told import read_declines_alone
from tests.workflows.world import World, now
from workers.histories import reading
from workers.histories.archive import Archive, ArchiveDamaged, Line
from workers.rebuild import rebuild
from workers.rebuild.fold import Books
from workers.rebuild.rebuild import Rebuilt
from workers.restore.check import Check
from workers.restore.fence import POLLS_WITHIN, StillWorking, require_nobody
from workers.restore.gaps import GapKind
from workers.restore.repair import Family
from workflows import names
from workflows.messages import RefundStart
from workflows.starts import payment_start

pytestmark = pytest.mark.asyncio(loop_scope="session")

GONE_WITHIN_SECONDS = 20


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


async def test_a_worker_that_asks_for_work_is_named(here: World, nobody: str) -> None:
    await here.pay()
    with pytest.raises(StillWorking, match=here.client.identity):
        await require_nobody(here.client, ["stripe"], nobody, now())


async def test_a_worker_that_stopped_asking_is_forgotten(here: World, nobody: str) -> None:
    await here.pay()
    await require_nobody(here.client, ["stripe"], nobody, now() + POLLS_WITHIN + timedelta(minutes=2))


async def test_an_api_that_answers_is_named(here: World) -> None:
    somebody = str(here.control.base_url).rstrip("/")
    with pytest.raises(StillWorking, match=f"the API at {somebody}"):
        await require_nobody(here.client, [], somebody, now() + timedelta(hours=1))


@pytest.fixture
def given(here: World, key_ring: KeyRing, tmp_path: Path) -> dict[str, Any]:
    """The operator's settings lead to the same database and the same Temporal."""
    _, _, port = here.client.service_client.config.target_host.rpartition(":")
    return {
        "data_dir": tmp_path,
        "temporal_port": int(port),
        "encryption_keys": key_ring.render(),
        "stripe_url": f"{str(here.control.base_url).rstrip('/')}/stripe",
    }


async def test_a_repair_beside_workers_is_refused_and_changes_nothing(
    here: World, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    begun = now().isoformat()
    before = copy_of(here.database.url, tmp_path / "before.db")
    payment = await here.pay()
    monkeypatch.setenv("DATABASE_URL", before)
    wanted = Wanted(is_repair=True, query=f'StartTime >= "{begun}"')
    assert await asyncio.to_thread(restore_check.run, given, wanted, as_json=True) is ExitCode.CONFLICT
    printed = capsys.readouterr()
    assert printed.out == ""
    assert here.client.identity in printed.err
    assert "--force" in printed.err
    async with on(here, before) as edge:
        assert await edge.database.read(payments.find, payment.id) is None
        looked = Wanted(is_repair=False, query=wanted.query)
        assert await asyncio.to_thread(restore_check.run, given, looked, as_json=True) is ExitCode.FAILURE
        forced = Wanted(is_repair=True, query=wanted.query, is_forced=True)
        assert await asyncio.to_thread(restore_check.run, given, forced, as_json=True) is ExitCode.OK
        assert (await edge.database.read(payments.load, payment.id)).status == "captured"
        acts = [
            it for it in await edge.database.read(operator_acts.since, None) if it.command == "restore-check"
        ]
        assert [(it.outcome, it.words["force"]) for it in acts] == [
            ("failed: still_working", False),
            ("ok", True),
        ]
        assert acts[-1].result["repaired"] is True


async def test_a_repair_that_loses_its_database_says_what_stays(
    here: World, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    begun = now().isoformat()
    before = copy_of(here.database.url, tmp_path / "before.db")
    for _ in range(2):
        await here.pay()
    monkeypatch.setenv("DATABASE_URL", before)
    repaired, for_good = list[object](), Check._for_good

    def once(self: Check, *arguments: Any) -> Any:
        if repaired:
            raise DatabaseUnavailable("ConnectionResetError")
        repaired.append(arguments)
        return for_good(self, *arguments)

    monkeypatch.setattr(Check, "_for_good", once)
    wanted = Wanted(is_repair=True, query=f'StartTime >= "{begun}"', is_forced=True)
    assert await asyncio.to_thread(restore_check.run, given, wanted, as_json=True) is ExitCode.UNAVAILABLE
    said = capsys.readouterr().err
    assert "1 payments were repaired and stay so" in said
    assert "run it again" in said
    async with on(here, before) as edge:
        (act,) = await edge.database.read(operator_acts.since, None)
        assert act.result == {"payments": 1}


async def test_what_the_server_forgot_is_repaired_from_the_archive(here: World, tmp_path: Path) -> None:
    begun = now().isoformat()
    before = copy_of(here.database.url, tmp_path / "before.db")
    payment = await here.pay()
    refund = await here.refund(payment.id, 2_000)
    ended = await here.database.read(rows)
    archive = await archived(here, tmp_path, f"payment-{payment.id}", f"refund-{refund.id}")
    await forget(here, f"payment-{payment.id}", f"refund-{refund.id}")
    query = f'StartTime >= "{begun}"'
    async with on(here, before) as edge:
        blind = await Check(edge, here.client, query=query).run(is_repair=True)
        assert {gap.kind for gap in blind.gaps} == {GapKind.STRANGER}, list(map(str, blind.gaps))
        assert await edge.database.read(payments.find, payment.id) is None
        repaired = await Check(edge, here.client, query=query, archive=archive).run(is_repair=True)
        assert repaired.left == [], list(map(str, repaired.left))
        assert await edge.database.read(rows) == ended
        assert (await Check(edge, here.client, query=query, archive=archive).run(is_repair=False)).gaps == []


async def test_an_archived_history_is_opened_once_and_only_where_the_server_has_it_not(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten, kept = await here.pay(), await here.pay()
    archive = await archived(here, tmp_path, f"payment-{forgotten.id}", f"payment-{kept.id}")
    opened, really = list[str](), Archive.open

    def counted(self: Archive, line: Line) -> Run:
        opened.append(line.workflow_id)
        return really(self, line)

    monkeypatch.setattr(Archive, "open", counted)
    query = f'WorkflowId = "payment-{kept.id}"'
    async with asyncio.timeout(GONE_WITHIN_SECONDS):
        while not await _listed(here, (f"payment-{kept.id}",)):
            await asyncio.sleep(0.2)
    await Check(here.wired.edge, here.client, query=query, archive=archive).run(is_repair=False)
    assert opened == [f"payment-{forgotten.id}"]


async def test_a_damaged_archive_is_not_believed(here: World, tmp_path: Path) -> None:
    before = copy_of(here.database.url, tmp_path / "before.db")
    payment = await here.pay()
    archive = await archived(here, tmp_path, f"payment-{payment.id}")
    (line,) = archive.lines()
    sealed = archive.directory / line.file
    sealed.chmod(0o600)
    sealed.write_bytes(sealed.read_bytes()[:-1] + b"x")
    async with on(here, before) as edge:
        asked = Check(edge, here.client, query='WorkflowId = "none"', archive=archive)
        with pytest.raises(ArchiveDamaged, match="line 1"):
            await asked.run(is_repair=True)
        assert await edge.database.read(payments.find, payment.id) is None


async def test_what_this_build_cannot_read_is_listed_and_the_others_are_repaired(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = now().isoformat()
    before = copy_of(here.database.url, tmp_path / "before.db")
    captured, declined = await here.pay(), await here.pay("pm_card_chargeDeclined")
    read_declines_alone(monkeypatch)
    async with on(here, before) as edge:
        found = await Check(edge, here.client, query=f'StartTime >= "{begun}"').run(is_repair=True)
        (unread,) = [gap for gap in found.left if gap.kind is GapKind.UNREAD]
        assert unread.object_id == captured.id
        assert "KnowsDeclines.outcome" in unread.found
        assert await edge.database.read(payments.find, captured.id) is None
        assert (await edge.database.read(payments.load, declined.id)).status == "failed"
        assert found.stopped == []


async def test_a_refund_that_cannot_be_read_leaves_its_payment_out(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it nobody can tell what the payment's own later steps were counted from."""
    begun = now().isoformat()
    before = copy_of(here.database.url, tmp_path / "before.db")
    refunded, other = await here.pay(), await here.pay()
    await here.refund(refunded.id, 2_000)
    monkeypatch.setattr(reading, "STARTS", {**reading.STARTS, names.REFUND: StartsWithReason})
    async with on(here, before) as edge:
        found = await Check(edge, here.client, query=f'StartTime >= "{begun}"').run(is_repair=True)
        assert [gap.object_id for gap in found.left if gap.kind is GapKind.UNREAD] == [refunded.id]
        assert await edge.database.read(payments.find, refunded.id) is None
        assert (await edge.database.read(payments.load, other.id)).status == "captured"


class StartsWithReason(RefundStart):
    """A field without a default is none that an older build's history has."""

    reason: str


async def test_what_is_archived_under_a_lost_key_is_listed_and_the_others_are_repaired(
    here: World, tmp_path: Path
) -> None:
    before = copy_of(here.database.url, tmp_path / "before.db")
    lost, kept = await here.pay("pm_card_chargeDeclined"), await here.pay("pm_card_chargeDeclined")
    sealer, kept_key = here.wired.sealer, here.wired.sealer.current
    both = {**sealer.keys, "lost": b"l" * 32}
    for current, payment in (("lost", lost), (kept_key, kept)):
        archive = Archive(tmp_path / "archive", Sealer(current, both), here.client.namespace)
        with archive.writing():
            async for run in of_workflows(here.client, [f"payment-{payment.id}"]):
                archive.add(run, now(), "b1")
    archive = Archive(tmp_path / "archive", Sealer(kept_key, sealer.keys), here.client.namespace)
    async with on(here, before) as edge:
        asked = Check(edge, here.client, query='WorkflowId = "none"', archive=archive)
        found = await asked.run(is_repair=True)
        assert (GapKind.SEALED, f"payment-{lost.id}") in [(gap.kind, gap.object_id) for gap in found.left]
        assert (await edge.database.read(payments.load, kept.id)).status == "failed"
    rebuilt = Rebuilt(Books())
    await rebuild.fold(archive.runs(), here.client.data_converter, rebuilt)
    assert set(rebuilt.books.payments) == {kept.id}
    (sealed,) = rebuilt.sealed
    assert f"payment-{lost.id}" in sealed
    assert "lost" in sealed


async def archived(here: World, tmp_path: Path, *workflow_ids: str) -> Archive:
    """An archive that holds these workflows and no other."""
    sealer = here.wired.sealer
    archive = Archive(tmp_path / "archive", Sealer(sealer.current, sealer.keys), here.client.namespace)
    with archive.writing():
        async for run in of_workflows(here.client, workflow_ids):
            archive.add(run, now(), "b1")
    return archive


async def forget(here: World, *workflow_ids: str) -> None:
    """Delete them on the server, as its retention does."""
    for workflow_id in workflow_ids:
        await here.client.workflow_service.delete_workflow_execution(
            DeleteWorkflowExecutionRequest(
                namespace=here.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=workflow_id),
            )
        )
    async with asyncio.timeout(GONE_WITHIN_SECONDS):
        while [it async for it in of_workflows(here.client, workflow_ids)] or await _listed(
            here, workflow_ids
        ):
            await asyncio.sleep(0.2)


async def _listed(here: World, workflow_ids: tuple[str, ...]) -> bool:
    ids = ", ".join(f'"{it}"' for it in workflow_ids)
    return bool([it async for it in here.client.list_workflows(f"WorkflowId IN ({ids})")])


async def test_what_came_in_while_a_dead_workers_task_was_out_is_heard(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by soak seed 20261145: the server keeps it out of the history until it takes the task back."""
    payment_id = await here.accept()
    row = await here.database.read(payments.load, payment_id)
    queue = f"of-a-dead-worker-{payment_id}"
    await here.client.start_workflow(
        names.PAYMENT,
        payment_start(row, here.windows),
        id=names.payment_workflow_id(payment_id),
        task_queue=queue,
    )
    await here.client.workflow_service.poll_workflow_task_queue(
        PollWorkflowTaskQueueRequest(
            namespace=here.client.namespace, task_queue=TaskQueue(name=queue), identity="about to die"
        )
    )
    await here.hint(payment_id, "evt_1")
    heard = [
        [signal.name for it in family.readings for signal in it.signals]
        for settles_within in (timedelta(), timedelta(seconds=1))
        for family in await _families(here, payment_id, settles_within, monkeypatch)
    ]
    assert heard == [[], [names.PROVIDER_HINT]]
    await here.handle(payment_id).terminate("it has no worker")


async def _families(
    here: World, payment_id: str, settles_within: timedelta, monkeypatch: pytest.MonkeyPatch
) -> list[Family]:
    """What a check reads of one payment."""
    found: list[Family] = []

    async def compare(self: Check, families: list[Family], imports: Any) -> Any:
        found.extend(families)
        return [], [], 0

    monkeypatch.setattr(Check, "_compare", compare)
    query = f'WorkflowId = "{names.payment_workflow_id(payment_id)}"'
    await Check(here.wired.edge, here.client, query=query, settles_within=settles_within).run(is_repair=False)
    return found
