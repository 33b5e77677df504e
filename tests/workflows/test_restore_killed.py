"""A worker dies between a step's commit and its answer, the step is repeated, and then the database comes back older.

Only the repeat is in a history. So for every step that commits: from every moment the database is brought up again, row
for row, by what the repeat tells.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from corridor.domain.money import Money
from tests.workflows.earlier import check, copying, from_every_moment, on, rows
from tests.workflows.killed import at_rest, kill_after, kill_each
from tests.workflows.world import World, now
from workflows import undo

pytestmark = pytest.mark.asyncio(loop_scope="session")

LARGE = Money(600_000, "EUR")
HUGE = Money(2_100_000, "EUR")
FOR_EVER = 1000

Story = Callable[[World], Awaitable[None]]


async def pays_and_settles(here: World) -> None:
    payment = await here.pay()
    await here.settle()
    await here.handle(payment.id).result()


async def captures_and_refunds(here: World) -> None:
    payment = await here.authorize()
    await here.capture(payment.id, 8_000)
    assert (await here.refund(payment.id, 2_000)).status == "succeeded"
    assert (await here.refund(payment.id, 7_000)).status == "failed"


async def settles_and_refunds(here: World) -> None:
    await here.pay()
    payment = await here.pay()
    await here.refund(payment.id, 1_000)
    await here.settle()
    await here.handle(payment.id).result()
    assert (await here.refund(payment.id, 2_000)).status == "succeeded"


async def is_declined(here: World) -> None:
    await here.pay("pm_card_chargeDeclined")


async def is_declined_by_risk(here: World) -> None:
    await here.pay(amount=HUGE)


async def is_challenged_and_captured(here: World) -> None:
    payment = await here.pay("pm_card_authenticationRequired")
    await here.finish_challenge(payment.id)
    await here.hint(payment.id)
    await here.until(payment.id, "captured")


async def is_challenged_and_canceled(here: World) -> None:
    payment = await here.pay("pm_card_authenticationRequired")
    await here.cancel(payment.id)
    assert (await here.payment(payment.id)).status == "canceled"


async def is_canceled(here: World) -> None:
    payment = await here.authorize()
    await here.cancel(payment.id)
    assert (await here.payment(payment.id)).status == "canceled"


async def is_approved_by_a_person(here: World) -> None:
    payment = await here.authorize(amount=LARGE)
    await here.decide(payment.id, "approve")
    await here.until(payment.id, "authorized")


async def is_declined_by_a_person(here: World) -> None:
    payment = await here.pay(amount=LARGE)
    await here.decide(payment.id, "decline")
    await here.until(payment.id, "failed")


async def is_canceled_while_a_person_is_asked(here: World) -> None:
    payment = await here.pay(amount=LARGE)
    await here.cancel(payment.id)
    await here.until(payment.id, "canceled")


async def is_found_by_a_person(here: World) -> None:
    await _is_unknown(here)
    payment = await here.pay()
    await here.decide(payment.id, "found")
    await here.until(payment.id, "captured")


async def is_absent_to_a_person(here: World) -> None:
    await here.plant("status", status=500, stored=True)
    payment = await here.pay()
    await here.decide(payment.id, "absent")
    await here.until(payment.id, "failed")


async def is_looked_up(here: World) -> None:
    here.without_keys()
    await here.plant("timeout_after_effect")
    payment = await here.pay()
    assert payment.status == "captured"


async def is_stuck_and_undone(here: World) -> None:
    payment = await here.authorize()
    here.without_keys()
    await here.plant("reset_before_effect", "payment_intents.cancel")
    await here.cancel(payment.id)
    await here.decide(payment.id, "approve")
    await here.until(payment.id, "canceled")


async def renews_its_lock(here: World) -> None:
    """The first lock is too short to capture anything inside it; the next one lasts."""
    here.lock(1)
    payment = await here.authorize(slippage_max_bps=500)
    here.lock(1800)
    assert (await here.capture(payment.id))["status"] == "captured"


async def sends_its_refund_twice(here: World) -> None:
    payment = await here.pay()
    here.without_keys()
    await here.plant("reset_before_effect", "refunds.create")
    assert (await here.refund(payment.id, 3_000)).status == "succeeded"


async def cannot_send_its_refund(here: World) -> None:
    payment = await here.pay()
    here.without_keys()
    await here.plant("reset_before_effect", "refunds.create", times=2)
    assert (await here.refund(payment.id, 3_000)).status == "failed"


async def asks_about_its_refund(here: World) -> None:
    payment = await here.pay()
    here.without_keys()
    await here.plant("reset_before_effect", "refunds.create")
    await here.plant("status", "refunds.list", times=FOR_EVER, status=503)
    refund = await here.refund(payment.id, 6_000)
    review = await here.review(refund.id)
    await here.decide_refund(refund.id, review.id, "absent")
    assert (await here.refund_handle(refund.id).result())["status"] == "failed"


async def gets_its_refund_back(here: World) -> None:
    payment = await here.pay("pm_card_refundFail")
    refund = await here.refund(payment.id, 2_000)
    (await here.control.post("/control/clock", json={"advance_seconds": 5})).raise_for_status()
    await here.route_webhooks()
    assert (await here.refund_handle(refund.id).result())["status"] == "failed"


STORIES: tuple[Story, ...] = (
    pays_and_settles,
    captures_and_refunds,
    settles_and_refunds,
    is_declined,
    is_declined_by_risk,
    is_challenged_and_captured,
    is_challenged_and_canceled,
    is_canceled,
    is_approved_by_a_person,
    is_declined_by_a_person,
    is_canceled_while_a_person_is_asked,
    is_found_by_a_person,
    is_absent_to_a_person,
    is_looked_up,
    is_stuck_and_undone,
    renews_its_lock,
    sends_its_refund_twice,
    cannot_send_its_refund,
    asks_about_its_refund,
    gets_its_refund_back,
)
COMMITS = (
    "_prepare", "_declare", "_move", "_requote", "_reserve_and_tell", "_release", "_settle", "_open", "_decide",
    "record_answer", "_refund_seen_again",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES, ids=lambda it: it.__name__)
async def test_what_killed_workers_committed_is_made_again_from_the_repeats(
    here: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, story: Story
) -> None:
    """The worker that takes a step is killed the first time it commits, at every step of the story."""
    monkeypatch.setattr(undo.voided, "__defaults__", ((),))
    await from_every_moment(here, tmp_path, _killing(story, *COMMITS))


@pytest.mark.parametrize("work", ["record_answer", "_settle"])
async def test_a_refund_that_came_between_the_killed_step_and_its_repeat_is_made_again(
    here: World, tmp_path: Path, work: str
) -> None:
    async def refunds_a_part_of_what_nobody_was_told(here: World) -> None:
        payment_id = await here.accept()

        async def refund() -> None:
            assert (await here.refund(payment_id, 1_000)).status == "succeeded"

        with pytest.MonkeyPatch.context() as patch:
            kill_after(here, patch, work, refund)
            await here.start(payment_id)
            await here.settle()
            await here.handle(payment_id).result()
            await at_rest(here)

    await from_every_moment(here, tmp_path, refunds_a_part_of_what_nobody_was_told)


async def test_a_decision_that_nothing_but_the_preparation_of_a_reset_tells_of_is_left_to_a_person(
    here: World, tmp_path: Path
) -> None:
    """The payment's row and its event could be made without it, and the question would stay open for ever."""
    begun, has_begun = now().isoformat(), asyncio.Event()
    payment = await here.pay(amount=LARGE)

    async def begin_anew() -> None:
        await here.begin_anew(payment.id)
        has_begun.set()

    with copying(here, tmp_path) as copies, pytest.MonkeyPatch.context() as patch:
        kill_after(here, patch, "_decide", begin_anew)
        deciding = asyncio.create_task(here.decide(payment.id, "decline"))
        await has_begun.wait()
        await asyncio.gather(deciding, return_exceptions=True)
        await here.handle(payment.id).result()
    ended, left = await here.database.read(rows), 0
    for url in copies.urls:
        async with on(here, url) as edge:
            found = await check(here, edge, begun, is_repair=True)
            again = await edge.database.read(rows)
            assert (again["reviews"] == ended["reviews"]) != bool(found.left), url
            assert (again["payments"] == ended["payments"]) != bool(found.left), url
            left += len(found.left)
    assert left


def _killing(story: Story, *works: str) -> Story:
    async def killed_story(here: World) -> None:
        with pytest.MonkeyPatch.context() as patch:
            killed = kill_each(here, patch, *works)
            await story(here)
            await at_rest(here)
        await here.heal()  # the providers' own books are read by every check
        assert killed

    return killed_story


async def _is_unknown(here: World) -> None:
    here.without_keys()
    await here.plant("timeout_after_effect")
    await here.plant("status", "payment_intents.list", times=FOR_EVER, status=503)
