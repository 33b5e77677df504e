"""What crosses between builds: a field that a newer build added does not stop an older one."""

import inspect
from types import ModuleType

import pytest
from pydantic import BaseModel

from activities import contracts
from activities.contracts import Executed, Message, Step
from corridor.domain.outcome import Outcome
from corridor.domain.payment import Status
from workflows import messages


@pytest.mark.parametrize("module", [contracts, messages], ids=lambda module: module.__name__)
def test_every_value_of_a_history_is_a_message(module: ModuleType) -> None:
    own = [it for _, it in inspect.getmembers(module, inspect.isclass) if it.__module__ == module.__name__]
    found = [it for it in own if issubclass(it, BaseModel)]
    assert len(found) > 5
    assert [it for it in found if not issubclass(it, Message)] == []


def test_every_step_takes_and_gives_messages() -> None:
    steps = [it for _, it in inspect.getmembers(contracts, lambda it: isinstance(it, Step))]
    assert len(steps) > 10
    assert [step.name for step in steps if not issubclass(step.takes, Message)] == []
    assert [step.name for step in steps if not issubclass(step.gives, Message)] == []


def test_a_field_of_a_newer_build_is_ignored() -> None:
    told = Executed(outcome=Outcome.APPROVED, status=Status.CAPTURED, sequence=2)
    newer = {**told.model_dump(mode="json"), "risk_score_of_2028": 7}
    assert Executed.model_validate(newer) == told
