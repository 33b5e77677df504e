"""Builds of the workers side by side, on a server of their own: who becomes current, and what becomes of the pinned."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio import workflow
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from corridor.notify import schedule
from corridor.runtime.keys import KeyRing
from corridor.runtime.refused import SettingsRefused
from tests.workflows.books import prove
from tests.workflows.conftest import installation
from tests.workflows.world import GRACE, World, world
from workers import fleet
from workers.builds import deployment
from workers.builds.keeper import Keeper, without_builds
from workflows import names, payment
from workflows.payment import PaymentWorkflow

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture
async def here(
    own_temporal_env: WorkflowEnvironment,
    key_ring: KeyRing,
    sqlite_database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """An installation without workers; each test starts the builds it needs."""
    with installation(sqlite_database, key_ring, tmp_path, monkeypatch) as (settings, sandbox):
        async with world(own_temporal_env.client, settings, sandbox, with_workers=False) as opened:
            yield opened
            await prove(opened)


@contextlib.asynccontextmanager
async def workers_of(here: World, build_id: str, *, takes_over: bool = False) -> AsyncIterator[Keeper]:
    """What a worker process of this build runs, until the block is left."""
    async with fleet.running(here.wired, here.client, GRACE, build=fleet.of_build(build_id)):
        keeper = Keeper(here.client, build_id, here.wired.edge.providers.names, takes_over)
        await keeper.begin()
        yield keeper


async def state_of(here: World, build_id: str) -> deployment.Build:
    (found,) = [build for build in await deployment.builds(here.client) if build.build_id == build_id]
    return found


async def pinned_to(here: World, payment_id: str) -> str:
    described = await here.handle(payment_id).describe()
    info = described.raw_description.workflow_execution_info.versioning_info
    override = info.versioning_override.pinned.version.build_id
    return str(override or info.deployment_version.build_id)


async def until_payments_begin_on(here: World, build_id: str) -> None:
    """At once as a rule; rarely the server's queues hear of a promotion later."""
    async with asyncio.timeout(60):
        while await pinned_to(here, (await here.pay()).id) != build_id:
            await asyncio.sleep(0.5)


async def until_adopted(keeper: Keeper) -> None:
    """Visibility lags by a moment, so the first turn may see nothing."""
    while await keeper.turn() == 0:
        pass


async def test_the_first_build_of_a_new_installation_makes_itself_current(here: World) -> None:
    async with workers_of(here, "a"):
        assert await deployment.current(here.client) == "a"
        paid = await here.pay()
        assert paid.status == "captured"
        assert await pinned_to(here, paid.id) == "a"
        await here.settle()
        await here.until(paid.id, "settled")


async def test_the_same_build_goes_on_after_a_restart(here: World) -> None:
    async with workers_of(here, "a"):
        authorized = await here.authorize()
    async with workers_of(here, "a") as keeper:
        assert await keeper.turn() == 0
        await here.capture(authorized.id)
        assert (await here.payment(authorized.id)).status == "captured"


async def test_a_choice_that_was_lost_with_temporals_store_is_made_again(here: World) -> None:
    async with workers_of(here, "a") as keeper:
        await deployment.make_current(here.client, deployment.NONE)
        assert await deployment.current(here.client) is None
        await keeper.turn()
        assert await deployment.current(here.client) == "a"
        assert (await here.pay()).status == "captured"


async def test_versioning_is_switched_off_only_when_nothing_is_pinned_any_more(here: World) -> None:
    async with workers_of(here, "a"):
        authorized = await here.authorize()
        while (await state_of(here, "a")).pinned == 0:
            await asyncio.sleep(0.1)
        with pytest.raises(SettingsRefused, match="1 workflows are pinned"):
            await without_builds(here.client, takes_over=True)
        await here.cancel(authorized.id)
        while (await state_of(here, "a")).pinned > 0:
            await asyncio.sleep(0.1)
    await without_builds(here.client, takes_over=True)
    async with fleet.running(here.wired, here.client, GRACE):
        assert (await here.pay()).status == "captured"


async def test_a_second_build_waits_until_it_is_promoted(here: World) -> None:
    async with workers_of(here, "a"), workers_of(here, "b"):
        assert await pinned_to(here, (await here.pay()).id) == "a"
        assert (await state_of(here, "b")).state is deployment.State.WAITING
        await deployment.make_current(here.client, "b")
        await until_payments_begin_on(here, "b")
        assert [build.build_id for build in await deployment.builds(here.client)] == ["b", "a"]


async def test_work_that_is_not_pinned_goes_over_to_the_build_that_becomes_current(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delivery goes on failing until the other build has carried it; then it may end."""
    monkeypatch.setattr(schedule, "DELAYS_SECONDS", (2,) * 100)
    async with workers_of(here, "a"):
        await here.subscribe(("payment.captured",), failures=100)
        await here.pay()
        (delivery_id,) = await here.dispatch()
        handle = here.client.get_workflow_handle(names.delivery_workflow_id(delivery_id))
        async with workers_of(here, "b", takes_over=True), asyncio.timeout(90):
            while await carried_last_by(handle) != "b":
                await asyncio.sleep(0.5)
            (await here.control.put("/merchant/webhooks/shop", json={"fail_next": 0})).raise_for_status()
            assert await handle.result() == "delivered"


async def carried_last_by(handle: WorkflowHandle[Any, Any]) -> str:
    """The build of the workflow's newest task; empty before its first."""
    history = await handle.fetch_history()
    done = [event.workflow_task_completed_event_attributes for event in history.events]
    return ["", *(task.deployment_version.build_id for task in done if task.ByteSize())][-1]


async def test_a_build_that_takes_over_adopts_the_payments_of_one_that_is_gone(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "GONE_AFTER_SECONDS", -1.0)
    async with workers_of(here, "a"):
        authorized = await here.authorize()
    async with workers_of(here, "b", takes_over=True) as keeper:
        await until_adopted(keeper)
        assert await pinned_to(here, authorized.id) == "b"
        await here.capture(authorized.id)
        assert (await here.payment(authorized.id)).status == "captured"


async def test_a_payment_that_does_not_fit_is_left_to_its_build_and_ends_there(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "GONE_AFTER_SECONDS", -1.0)
    async with workers_of(here, "a"):
        authorized = await here.authorize()
    with monkeypatch.context() as second:
        collect = PaymentWorkflow._collect

        async def with_a_step_more(self: PaymentWorkflow) -> None:
            await workflow.sleep(0.01)
            await collect(self)

        second.setattr(payment.PaymentWorkflow, "_collect", with_a_step_more)
        async with workers_of(here, "b", takes_over=True) as keeper:
            await until_payments_begin_on(here, "b")
            while not (await state_of(here, "a")).is_stranded:
                await keeper.turn()
            assert await keeper.turn() == 0
            assert await pinned_to(here, authorized.id) == "a"
    async with workers_of(here, "a"):
        answer: Any = await here.capture(authorized.id)
        assert answer["status"] == "captured"


async def test_a_build_that_is_still_served_is_not_touched(here: World) -> None:
    async with workers_of(here, "a"):
        authorized = await here.authorize()
        async with workers_of(here, "b", takes_over=True) as keeper:
            while (await state_of(here, "a")).pinned == 0:
                assert await keeper.turn() == 0
            assert await keeper.turn() == 0
            assert await pinned_to(here, authorized.id) == "a"
            await here.capture(authorized.id)
