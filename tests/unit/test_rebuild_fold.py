"""What many runs say together, in whichever order they are read: the server's order counts, and loose ends are named."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from activities.contracts import CLOSE_BATCH, PREPARE
from corridor.providers.registry import Registry
from corridor.storage.database import Database
from tests.replay import golden
from workers.histories import reading
from workers.histories.reading import Reading, StepTaken
from workers.rebuild import rebuild
from workers.rebuild.fold import Books
from workers.rebuild.rebuild import Rebuilt


async def _read(workflow: str, scenario: str) -> Reading:
    (found,) = [it for it in golden.all_of_them() if (it.workflow, it.scenario) == (workflow, scenario)]
    return await reading.read(found.history, golden.converter())


def _closing(told: Reading, at: datetime, closed_at: datetime) -> Reading:
    """The import as one that closed its batch then, by the server's clock and by its worker's."""

    def closed(step: StepTaken) -> StepTaken:
        if step.name != CLOSE_BATCH.name:
            return step
        return replace(step, at=at, result=step.result.model_copy(update={"closed_at": closed_at}))

    return replace(told, steps=tuple(map(closed, told.steps)))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["as they ran", "newest first"])
async def test_of_two_closings_of_a_batch_the_one_that_came_last_stands(order: Sequence[int]) -> None:
    """The second was made by a worker whose clock is behind that of the first."""
    told = await _read("Settlement", "settlement")
    (step,) = told.of(CLOSE_BATCH)
    first, second = step.at + timedelta(hours=1), step.at
    imports = (
        _closing(told, step.at, first),
        _closing(told, step.at + timedelta(minutes=1), second),
    )
    books = Books()
    for number in order:
        books.add(imports[number])
    assert [it.closed_at for _, it in books.batches.in_order()] == [second]


async def test_an_effect_that_no_history_declares_is_named_once(tmp_path: Path) -> None:
    told = await _read("Payment", "happy")

    def undeclared(step: StepTaken) -> StepTaken:
        if step.name != PREPARE.name:
            return step
        return replace(step, result=step.result.model_copy(update={"plan": None}))

    found, target = Rebuilt(Books()), Database(f"sqlite:///{tmp_path / 'rebuilt.db'}")
    for _ in range(2):
        found.books.add(replace(told, steps=tuple(map(undeclared, told.steps))))
    try:
        await rebuild.write(found, target, Registry([]))
    finally:
        await target.close()
    problem = f"{told.workflow_id} tells of effect {told.object_id}:sale:1, which no history declares"
    assert found.problems.count(problem) == 1
