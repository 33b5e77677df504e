"""`python -m tests.mutants`: does the suite notice bugs we plant in it?

Each bug is a patch, applied alone to a copy of the tree; its checks run in the copy, one bug after the other. The
same checks run on the unmodified copy first. Exit status 0 only if those passed and every bug was caught.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from tests.mutants import mutant, report, trial
from tests.mutants.judge import Court, Sentence
from tests.mutants.mutant import DoesNotApply, Mutant
from tests.mutants.trial import Run, Verdict

WIDTH = 150
talk = Console(stderr=True, highlight=False, soft_wrap=True, width=None if sys.stderr.isatty() else WIDTH)


def main() -> int:
    """Run the trials, print the table, write the JSON."""
    options = _options()
    chosen = _chosen(options.only)
    if options.list:
        for one in chosen:
            talk.print(f"[bold]{one.name}[/]: {one.bug}")
        return 0
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as name:
        snapshot = trial.copied(trial.ROOT, Path(name) / "snapshot")
        court = Court(snapshot, Path(name), options.every_check, talk.print)
        if not _all_apply(chosen, snapshot):
            return 1
        control = _control(court, chosen)
        if control.verdict is Verdict.BROKEN:
            return 1
        judge = court.judge_by_chaos if options.chaos else court.judge
        sentences = [_tried(judge, one) for one in chosen]
    _show(sentences, control, options.every_check, options.json)
    return 0 if control.verdict is Verdict.PASSED and all(one.is_caught for one in sentences) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="this bug alone; may be repeated")
    parser.add_argument(
        "--every-check", action="store_true", help="run every named check, not only to the first catch"
    )
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="the record, to FILE or standard output"
    )
    parser.add_argument(
        "--chaos", action="store_true", help="judge by the chaos harness alone, seed by seed; minutes a bug"
    )
    parser.add_argument("--list", action="store_true", help="name the bugs and stop")
    return parser.parse_args()


def _chosen(names: Sequence[str] | None) -> list[Mutant]:
    known = {one.name: one for one in mutant.all_of_them()}
    strangers = [name for name in names or () if name not in known]
    if strangers:
        sys.exit(f"no such bug: {', '.join(strangers)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(known.values())


def _all_apply(chosen: Sequence[Mutant], snapshot: Path) -> bool:
    """Said before anything runs: a patch that no longer fits needs an author, not an hour of trials."""
    fits = True
    for one in chosen:
        try:
            one.texts(snapshot)
        except DoesNotApply as error:
            talk.print(f"[red]does not apply[/] {error}")
            fits = False
    return fits


def _control(court: Court, chosen: Sequence[Mutant]) -> Run:
    talk.print(f"control: the checks of {len(chosen)} bugs on the unmodified tree …")
    run = court.control(chosen)
    talk.print(f"control: {run.verdict} after {run.seconds:.0f} s")
    for finding in run.findings:
        talk.print(f"  fails without any bug, not heard: {finding.test}: {finding.said}", markup=False)
    if run.verdict is Verdict.BROKEN:
        talk.print(run.output[-2000:], markup=False)
    return run


def _tried(judge: Callable[[Mutant], Sentence], one: Mutant) -> Sentence:
    talk.print(f"[bold]{one.name}[/]: {one.bug}")
    sentence = judge(one)
    first = sentence.findings[0] if sentence.findings else None
    talk.print(f"  {sentence.end} after {sentence.seconds:.1f} s", markup=False)
    if first is not None:
        talk.print(f"  {first.test}: {first.said}", markup=False)
    elif sentence.detail:
        talk.print(f"  {sentence.detail}", markup=False)
    return sentence


def _show(sentences: Sequence[Sentence], control: Run, every_check: bool, json_to: str | None) -> None:
    talk.print(report.table(sentences))
    if every_check:
        for one in sentences:
            for check in one.silent:
                talk.print(f"silent: {one.mutant.name} is not noticed by {check}", markup=False)
    if json_to is None:
        return
    text = json.dumps(report.document(sentences, control, datetime.now(UTC)), indent=1, ensure_ascii=False)
    if json_to == "-":
        sys.stdout.write(text + "\n")
    else:
        Path(json_to).write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
