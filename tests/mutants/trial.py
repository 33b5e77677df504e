"""Trials: copies of the tree, and selections of the suite run in them by the same interpreter."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CACHES = frozenset({".hypothesis", ".import_linter_cache", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
LEFT_OUT = CACHES | {".git", ".venv", "dist", "var"}
ONE_TEST_SECONDS = 90
GRACE_SECONDS = 20
"""For a process that is told to stop: time to end the servers it has started."""


class Verdict(StrEnum):
    """What a run of tests says."""

    PASSED = "passed"
    FAILED = "failed"
    HUNG = "hung"
    BROKEN = "broken"
    """Tests could not be collected, or do not exist: neither a pass nor a catch."""


@dataclass(frozen=True)
class Finding:
    """A test that failed. `seconds` since its run began; `examples` counts a property's tries."""

    test: str
    said: str
    seconds: float
    examples: int | None


@dataclass(frozen=True)
class Run:
    """One run of pytest (or of another check) in a copy."""

    verdict: Verdict
    seconds: float
    findings: tuple[Finding, ...]
    output: str

    @property
    def found(self) -> bool:
        """Whether this run noticed something, and not only broke."""
        return self.verdict in (Verdict.FAILED, Verdict.HUNG)


def copied(source: Path, target: Path) -> Path:
    """The tree without what is made from it; compiled code goes along, which halves the start of a trial."""

    def left_out(directory: str, names: list[str]) -> set[str]:
        return set(names) & LEFT_OUT if Path(directory) == source else set()

    shutil.copytree(source, target, ignore=left_out, symlinks=True)
    return target


def run_tests(
    tree: Path,
    checks: Sequence[str],
    seed: int,
    limit_seconds: float,
    *,
    stop_at_first: bool = True,
    without: Sequence[str] = (),
) -> Run:
    """Run these pytest selections, in this order, on the code of `tree`; tests in `without` are left out."""
    told = tree / "witness.jsonl"
    told.unlink(missing_ok=True)
    arguments = [
        "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.mutants.witness", f"--witness={told}",
        f"--hypothesis-seed={seed}", f"--timeout={ONE_TEST_SECONDS}", "--timeout-method=signal",
        *(["-x"] if stop_at_first else []), *(f"--deselect={test}" for test in without), *checks,
    ]  # fmt: skip
    code, seconds, output = run_module(tree, arguments, limit_seconds)
    lines = [json.loads(line) for line in told.read_text("utf-8").splitlines()] if told.exists() else []
    findings = tuple(_finding(line) for line in lines if line["what"] == "failed")
    if code is None and not findings:
        findings = _where_it_hung(lines, seconds)
    return Run(_verdict(code, findings), seconds, findings, output)


def run_module(tree: Path, arguments: Sequence[str], limit_seconds: float) -> tuple[int | None, float, str]:
    """`python -m …` in the copy: exit status (None: it had to be ended), seconds, and what it printed."""
    begun = time.monotonic()
    log = tree / "trial.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 — the interpreter that runs us, on our own tests
            [sys.executable, "-m", *arguments],
            cwd=tree,
            env=_environment(tree),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code = _ended(process, limit_seconds)
    return code, time.monotonic() - begun, log.read_text("utf-8", errors="replace")


def _ended(process: subprocess.Popen[bytes], limit_seconds: float) -> int | None:
    try:
        return process.wait(limit_seconds)
    except subprocess.TimeoutExpired:
        # As Ctrl-C does: pytest ends the servers that its fixtures have started.
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _environment(tree: Path) -> dict[str, str]:
    """Ours, without what could decide a test, and with the copy's code before any installed one."""
    dropped = ("CORRIDOR_", "TEMPORAL_", "OTEL_", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PYTHONPATH": str(tree)}


def _finding(line: dict[str, Any]) -> Finding:
    return Finding(line["test"], line["said"], line["seconds"], line["examples"])


def _where_it_hung(lines: Sequence[dict[str, Any]], seconds: float) -> tuple[Finding, ...]:
    test = lines[-1]["test"] if lines else "before the first test"
    return (Finding(test, f"did not end within {seconds:.0f} s", round(seconds, 2), None),)


def _verdict(code: int | None, findings: Sequence[Finding]) -> Verdict:
    """By pytest's exit status: 0 passed, 1 tests failed, others did not run; what was found before that counts."""
    if code == 0:
        return Verdict.PASSED
    if code is None or (findings and all("Timeout (>" in finding.said for finding in findings)):
        return Verdict.HUNG
    return Verdict.FAILED if findings else Verdict.BROKEN
