"""A command is in the history before any of its steps commits: a kill of worker and server then forgets neither.

An update that was only delivered is in no history. What a local step of the same task has committed would be a
decision, or a declared effect, that its workflow never heard of.
"""

from collections.abc import Iterator

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from activities.contracts import RECORD
from corridor.domain.money import Money
from tests.workflows.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")

LARGE = Money(600_000, "EUR")
COMMAND = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
TASK_DONE = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
STEPS = (EventType.EVENT_TYPE_MARKER_RECORDED, EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
PATCHES = "core_patch"


async def test_a_capture(here: World) -> None:
    payment = await here.authorize()
    await here.capture(payment.id, 6_000)
    await _acts_once_recorded(here, payment.id)


async def test_a_cancel(here: World) -> None:
    payment = await here.authorize()
    await here.cancel(payment.id)
    await _acts_once_recorded(here, payment.id)


async def test_a_cancel_before_the_buyer_came_back(here: World) -> None:
    payment = await here.pay("pm_card_threeDSecure2Required")
    await here.cancel(payment.id)
    await _acts_once_recorded(here, payment.id)


async def test_a_decision(here: World) -> None:
    payment = await here.pay(amount=LARGE)
    await here.decide(payment.id, "approve")
    await here.until(payment.id, "captured")
    await _acts_once_recorded(here, payment.id)


async def _acts_once_recorded(here: World, payment_id: str) -> None:
    history = await here.handle(payment_id).fetch_history()
    found = list(_steps_after_commands(history))
    assert found, "no command, or nothing that it did"
    assert all(found), "a step in the very task that brought its command"


def _steps_after_commands(history: WorkflowHistory) -> Iterator[bool]:
    """For each command but the API's first look: whether a task ended between it and the step that followed."""
    waiting = False
    for event in history.events:
        if event.event_type == COMMAND:
            said = event.workflow_execution_update_accepted_event_attributes.accepted_request.input.name
            waiting, recorded = said != "accept", False
        elif waiting and event.event_type == TASK_DONE:
            recorded = True
        elif waiting and event.event_type in STEPS and not _changes_nothing(event):
            yield recorded
            waiting = False


def _changes_nothing(event: HistoryEvent) -> bool:
    asked = event.activity_task_scheduled_event_attributes.activity_type.name
    return event.marker_recorded_event_attributes.marker_name == PATCHES or asked == RECORD.name
