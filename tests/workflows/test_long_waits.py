"""Waits of days, on a server whose clock jumps over timers: the windows of networks, providers and people."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.testing import WorkflowEnvironment

from activities import errors, settle_step
from corridor.runtime.keys import KeyRing
from tests.workflows.books import prove
from tests.workflows.conftest import installation
from tests.workflows.world import World, world
from workflows import names

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOR_EVER = 1000


@pytest_asyncio.fixture
async def later(
    skipping_env: WorkflowEnvironment,
    key_ring: KeyRing,
    sqlite_database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """A small installation on the skipping server; database and sandbox keep the real time."""
    with installation(sqlite_database, key_ring, tmp_path, monkeypatch) as (settings, sandbox):
        async with world(skipping_env.client, settings, sandbox) as opened:
            yield opened
            await prove(opened)


async def test_an_authorisation_nobody_captures_is_voided_before_the_network_lets_it_lapse(
    later: World,
) -> None:
    payment = await later.authorize()
    payment = await later.until(payment.id, "expired")
    assert payment.status_reason == "authorization_expired"
    assert ("cancel", 10_000) in await later.moved(payment.id)


async def test_a_refund_is_listened_to_for_thirty_days(later: World) -> None:
    payment = await later.pay()
    refund = await later.refund(payment.id, 1_000)
    handle = later.refund_handle(refund.id)
    async with asyncio.timeout(20):
        assert (await handle.result())["status"] == "succeeded"
    history = await handle.fetch_history()
    begun, ended = history.events[0].event_time.ToDatetime(), history.events[-1].event_time.ToDatetime()
    assert (ended - begun).days == 30


async def test_a_settlement_that_does_not_come_is_shown_and_still_awaited(later: World) -> None:
    payment = await later.pay()
    async with asyncio.timeout(20):
        while not (await later.handle(payment.id).describe()).typed_search_attributes.get(names.NEEDS_REVIEW):
            await asyncio.sleep(0.1)
    await later.settle()
    await later.until(payment.id, "settled")


async def test_a_void_that_keeps_failing_asks_a_person_and_is_made_as_soon_as_the_provider_is_back(
    later: World,
) -> None:
    payment = await later.authorize()
    later.without_keys()  # with them each undo is repeated for minutes before the next
    await later.plant("status", "payment_intents.cancel", times=FOR_EVER, status=503)
    canceling = asyncio.create_task(later.cancel(payment.id))
    payment = await later.until(payment.id, "requires_review", seconds=60)
    assert payment.status_reason == "compensation_stuck"
    assert (await canceling)["refused"] == "outcome_unknown"
    await later.heal()
    await later.until(payment.id, "canceled")
    assert ("cancel", 10_000) in await later.moved(payment.id)


async def test_a_step_that_fails_for_hours_is_tried_more_and_more_seldom_and_then_the_payment_goes_on(
    later: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try of a local step costs events, and a history that is full would end the payment where it stands."""
    tries, works = 0, settle_step._settle

    def fails(*step: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries <= 40:
            raise OSError("a bug that is not corrected yet")
        return works(*step)

    monkeypatch.setattr(errors, "TRIES_AT_FIRST", 1)
    monkeypatch.setattr(settle_step, "_settle", fails)
    payment = await later.pay()
    await later.settle()
    await later.until(payment.id, "settled", seconds=60)
    history = await later.handle(payment.id).fetch_history()
    pauses = [
        event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
        for event in history.events
        if event.HasField("timer_started_event_attributes")
    ][-39:]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (timedelta(seconds=33), timedelta(seconds=600))
    assert len(history.events) < 39 * 8
