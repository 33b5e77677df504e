"""The next build of a fault run: another name, one step more, and the same story otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from corridor.runtime.build import SOURCE, source_digest
from corridor.runtime.settings import Settings, load
from tests.chaos.desk import Desk
from tests.chaos.faults.rollout import Rollouts
from tests.chaos.faults.turns import Turns

STORY = "workflows/payment.py"


@dataclass
class Fleet:
    """Workers that are never started: only the trees are looked at."""

    settings: Settings
    source: Path = SOURCE
    desk: Desk = field(default_factory=Desk)

    def run_build(self, name: str, environment: Mapping[str, str]) -> None:
        raise AssertionError(f"{name} was started with {sorted(environment)}")


def test_each_build_is_the_one_before_with_one_patched_step_more(tmp_path: Path) -> None:
    fleet = Fleet(load(data_dir=tmp_path / "installation", mode="sandbox"))
    rollouts = Rollouts(fleet, Turns())
    second = fleet.source = rollouts._make()
    rollouts._older.append(source_digest(SOURCE))
    third = rollouts._make()
    assert len({source_digest(tree) for tree in (SOURCE, second, third)}) == 3
    stories = [(tree / STORY).read_text("utf-8") for tree in (SOURCE, second, third)]
    assert [story.count('workflow.patched("build-') for story in stories] == [0, 1, 2]
    for story in stories:
        compile(story, STORY, "exec")
