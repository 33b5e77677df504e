"""A pytest plugin for trials: tells, line by line in a file, which test found what, and after how many examples.

It refuses to run when the code under test is not that of the tree it was started in: a trial of the wrong code would
call every bug escaped, or none.
"""

import importlib
import json
import re
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

PACKAGES = ("corridor", "workflows", "activities", "workers", "api")
_EXAMPLES = re.compile(r"(\d+) passing, \d+ failing,? and (\d+) invalid")
"""How hypothesis sums up a phase of a property; a release that words it otherwise yields no count, not a wrong one."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--witness", metavar="FILE", help="where the witness writes")


def pytest_configure(config: pytest.Config) -> None:
    told = config.getoption("--witness")
    if told is not None:
        # Looking for the smallest example takes time and changes no verdict; a count ends with the first failure.
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile(
            "trial", settings.default, phases=phases, report_multiple_bugs=False, database=None, deadline=None
        )
        settings.load_profile("trial")
        config.pluginmanager.register(Witness(Path(told), config.rootpath))


class Witness:
    """Writes as it goes, so that a process that is killed has said where it was."""

    def __init__(self, file: Path, root: Path) -> None:
        self._file = file
        self._root = root
        self._begun = time.monotonic()

    def pytest_sessionstart(self) -> None:
        for name in PACKAGES:
            origin = Path(str(importlib.import_module(name).__file__)).resolve()
            if not origin.is_relative_to(self._root.resolve()):
                raise pytest.UsageError(f"{name} under test is {origin}, outside {self._root}")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._tell("started", nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed:
            self._tell("failed", item.nodeid, examples=_examples(item), said=_said(report))
        return report

    def _tell(self, what: str, nodeid: str, **more: Any) -> None:
        line = {
            "what": what,
            "test": nodeid,
            "seconds": round(time.monotonic() - self._begun, 2),
            **more,
        }
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _examples(item: pytest.Item) -> int | None:
    """The number of the example that failed; None for a test that is no property."""
    phases = _EXAMPLES.findall(getattr(item, "hypothesis_statistics", ""))
    return 1 + sum(int(passed) + int(invalid) for passed, invalid in phases) if phases else None


def _said(report: pytest.TestReport) -> str:
    """What the check had to say, in a line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message if crash is not None else report.longrepr).strip()
    where = "" if report.when == "call" else f"{report.when}: "
    return (where + next(iter(text.splitlines()), ""))[:200]
