"""Judging a planted bug: the checks it names first, then ever wider parts of the suite, then the chaos harness."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from tests.mutants import trial
from tests.mutants.mutant import Mutant
from tests.mutants.trial import Finding, Run, Verdict

SEEDS = 3
"""How often the named checks are repeated, each time with another seed, before the net is cast wider."""
FIRST_NET_SECONDS = 240.0
WIDER: tuple[tuple[str, tuple[str, ...], float], ...] = (
    ("units", ("tests/properties", "tests/unit", "tests/conformance", "tests/tidy"), 900),
    ("api", ("tests/api",), 600),
    ("workflows", ("tests/workflows",), 1500),
    ("replay", ("tests/replay",), 300),
    ("crashes", ("tests/chaos/test_crash_points.py", "tests/e2e"), 1200),
)
CHAOS = ("tests.chaos", "--profile", "slice")
CHAOS_SECONDS = 600.0


class End(StrEnum):
    """What became of a planted bug."""

    CAUGHT = "caught"
    CAUGHT_BY_HANGING = "caught by hanging"
    CAUGHT_LATE = "caught late"
    """By a part of the suite that nobody expected to: its patch should name that check."""
    ESCAPED = "ESCAPED"
    BROKEN = "BROKEN"
    """The checks could not be run, which proves nothing."""


@dataclass(frozen=True)
class Sentence:
    """The judgement on one bug. `seconds` runs from the start of the first trial to the finding."""

    mutant: Mutant
    end: End
    seconds: float
    seed: int | None = None
    net: str = "named"
    findings: tuple[Finding, ...] = ()
    detail: str = ""

    @property
    def is_caught(self) -> bool:
        return self.end in (End.CAUGHT, End.CAUGHT_BY_HANGING, End.CAUGHT_LATE)

    @property
    def silent(self) -> tuple[str, ...]:
        """Named checks that noticed nothing; meant for runs in which every check had its turn."""
        heard = [finding.test for finding in self.findings]
        return tuple(
            check for check in self.mutant.checks if not any(test.startswith(check) for test in heard)
        )


class Court:
    """Tries bugs one by one against a snapshot of the tree, taken once: others may go on editing theirs."""

    def __init__(
        self, snapshot: Path, directory: Path, every_check: bool, say: Callable[[str], None]
    ) -> None:
        """With `every_check` a bug's checks all have their turn, so that each can be seen to notice it."""
        self._snapshot = snapshot
        self._directory = directory
        self._every_check = every_check
        self._unfit: tuple[str, ...] = ()
        self._say = say

    def control(self, mutants: Sequence[Mutant]) -> Run:
        """The same checks on the unmodified tree. A test that fails there is no witness: it is heard no more."""
        checks = list(dict.fromkeys(check for mutant in mutants for check in mutant.checks))
        limit_seconds = FIRST_NET_SECONDS + 30 * len(checks)
        run = trial.run_tests(self._snapshot, checks, 1, limit_seconds, stop_at_first=False)
        self._unfit = tuple(dict.fromkeys(finding.test for finding in run.findings))
        return run

    def judge(self, mutant: Mutant) -> Sentence:
        """Plant the bug in a copy of its own and look who notices. Raises `DoesNotApply`."""
        with self._copy() as tree:
            mutant.plant(tree)
            sentence = self._by_named_checks(mutant, tree)
            return sentence if sentence.end is not End.ESCAPED else self._by_wider_nets(sentence, tree)

    def judge_by_chaos(self, mutant: Mutant) -> Sentence:
        """Let only the chaos harness look: how many seeds until it notices. Raises `DoesNotApply`."""
        with self._copy() as tree:
            mutant.plant(tree)
            sentence = self._by_chaos(Sentence(mutant, End.ESCAPED, 0), tree, 0)
            return replace(sentence, end=End.CAUGHT) if sentence.is_caught else sentence

    def _by_named_checks(self, mutant: Mutant, tree: Path) -> Sentence:
        spent = 0.0
        for seed in range(1, SEEDS + 1):
            run = self._run(tree, mutant.checks, seed, FIRST_NET_SECONDS, stop_at_first=not self._every_check)
            if run.verdict is Verdict.BROKEN:
                return Sentence(mutant, End.BROKEN, spent + run.seconds, seed, detail=_tail(run.output))
            # A crowded machine hangs too, so a test that hung must not do so without the bug.
            if run.verdict is Verdict.FAILED or (
                run.found and self._passes_without_the_bug(run.findings[0].test)
            ):
                end = End.CAUGHT if run.verdict is Verdict.FAILED else End.CAUGHT_BY_HANGING
                return Sentence(mutant, end, spent + run.findings[0].seconds, seed, findings=run.findings)
            spent += run.seconds
        return Sentence(mutant, End.ESCAPED, spent)

    def _by_wider_nets(self, escaped: Sentence, tree: Path) -> Sentence:
        spent = escaped.seconds
        for net, checks, limit_seconds in WIDER:
            self._say(f"  not noticed by its own checks; casting the net wider: {net}")
            run = self._run(tree, checks, 1, limit_seconds)
            spent += run.seconds
            if run.found and self._passes_without_the_bug(run.findings[0].test):
                return Sentence(escaped.mutant, End.CAUGHT_LATE, spent, 1, net, run.findings)
        return self._by_chaos(escaped, tree, spent)

    def _run(
        self, tree: Path, checks: Sequence[str], seed: int, limit_seconds: float, stop_at_first: bool = True
    ) -> Run:
        return trial.run_tests(
            tree, checks, seed, limit_seconds, stop_at_first=stop_at_first, without=self._unfit
        )

    def _passes_without_the_bug(self, test: str) -> bool:
        """A test that fails either way has caught nothing."""
        run = trial.run_tests(self._snapshot, [test], 1, FIRST_NET_SECONDS)
        return run.verdict is Verdict.PASSED

    def _by_chaos(self, escaped: Sentence, tree: Path, spent: float) -> Sentence:
        """The same faults, seed by seed; a seed that the unmodified tree does not survive either proves nothing."""
        for seed in range(1, SEEDS + 1):
            self._say(f"  casting the last net: the chaos harness, seed {seed}")
            arguments = [*CHAOS, "--seed", str(seed)]
            code, seconds, output = trial.run_module(tree, arguments, CHAOS_SECONDS)
            spent += seconds
            if code != 0 and trial.run_module(self._snapshot, arguments, CHAOS_SECONDS)[0] == 0:
                finding = Finding(f"python -m {' '.join(arguments)}", _tail(output), round(spent, 2), None)
                return Sentence(escaped.mutant, End.CAUGHT_LATE, spent, seed, "chaos", (finding,))
        return Sentence(escaped.mutant, End.ESCAPED, spent)

    @contextmanager
    def _copy(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._directory, ignore_cleanup_errors=True) as name:
            yield trial.copied(self._snapshot, Path(name) / "tree")


def _tail(output: str) -> str:
    return " | ".join(line.strip() for line in output.splitlines() if line.strip())[-300:]
