"""The fingerprint of the workflow code: what each golden history makes it command, and what none of them reaches.

`python -m tests.replay.fingerprint` compares the code with the committed file and says what to do;
`--write` brings the file up to date, and wants a reason (`--because`) for whatever no golden history vouches for.

Two things are kept. *Commands*: for each golden history every command this code gives along it, with its timeouts,
retries and queue. They never change for a recorded history. *Uncovered*: each function with a statement that no golden
history runs, and the constants of each module, by a digest that comments and layout do not change. A golden history
vouches for the rest.
"""

import argparse
import ast
import asyncio
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from corridor.runtime.build import SOURCE, digest, normal_form, protocol_files
from corridor.runtime.replay import Verdict
from tests.replay import golden, watching
from tests.replay.golden import Golden
from tests.replay.watching import Lines, Sheet

FILE = Path(__file__).parent / "fingerprints.json"
CALCULATES = "corridor"
"""What workflow code computes with commands nothing; the build id alone names it."""
CONSTANTS = "<constants>"
GUIDE = "docs/decisions/0005-versioning.md says which way is meant for which workflow."

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Uncovered:
    """Code that no golden history vouches for: its digest, the statements never run, and why that is accepted."""

    digest: str
    statements: tuple[str, ...]
    because: str = ""


@dataclass(frozen=True)
class Fingerprint:
    """The code at one time. `commands` by golden history, `uncovered` by `module:qualified name`."""

    commands: Mapping[str, tuple[str, ...]]
    uncovered: Mapping[str, Uncovered]


@dataclass
class Difference:
    """What stands between the committed fingerprint and the code; each line says what to do."""

    broken: list[str] = field(default_factory=list)
    """A recorded history asks for other commands now: never accepted, whatever the reason given."""
    unvouched: list[str] = field(default_factory=list)
    """Changed where no history looks, or a history is gone: accepted with a reason."""
    stale: list[str] = field(default_factory=list)
    """The file is behind, nothing more."""

    def __bool__(self) -> bool:
        return bool(self.broken or self.unvouched or self.stale)

    def __str__(self) -> str:
        return "\n\n".join([*self.broken, *self.unvouched, *self.stale])


# --- the code at hand ----------------------------------------------------------------------------------------


async def taken(histories: Sequence[Golden], source: Path = SOURCE) -> Fingerprint:
    """The fingerprint of the code at hand, along these histories."""
    sheets = {history.name: await watching.watch(history.history) for history in histories}
    lines: Lines = set().union(*(sheet.lines for sheet in sheets.values()))
    commands = {name: _commands(sheet) for name, sheet in sheets.items()}
    return Fingerprint(commands, dict(_uncovered(source, lines)))


def _commands(sheet: Sheet) -> tuple[str, ...]:
    verdict = sheet.verdict
    if verdict is None or verdict.verdict is Verdict.FITS:
        return tuple(sheet.commands)
    return (*sheet.commands, f"replay stops: {verdict.verdict}")


def _uncovered(source: Path, lines: Lines) -> Iterator[tuple[str, Uncovered]]:
    for file in sorted(protocol_files(source)):
        path = file.relative_to(source)
        if path.parts[0] == CALCULATES:
            continue
        module, text = ".".join(path.with_suffix("").parts), file.read_text("utf-8")
        tree = ast.parse(text)
        if constants := [normal_form(node) for node in _constants(tree)]:
            yield f"{module}:{CONSTANTS}", Uncovered(digest(constants), ())
        ran = {line for name, line in lines if name == str(path)}
        for name, function in _functions(tree.body):
            never = [node for node in _statements(function.body) if not ran & set(_own_lines(node))]
            if never:
                shown = tuple(_first_line(text, node) for node in never)
                yield f"{module}:{name}", Uncovered(digest(normal_form(function)), shown)


def _functions(body: Iterable[ast.stmt], within: str = "") -> Iterator[tuple[str, Function]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _functions(node.body, f"{within}{node.name}.")
        elif isinstance(node, Function):
            yield within + node.name, node


def _constants(tree: ast.Module | ast.ClassDef) -> Iterator[ast.stmt]:
    """What a module and its classes say outside of functions; imports alone command nothing."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from _constants(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            yield node


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that leave a trace when they run; of one that never ran, what lies within it is not named again."""
    for node in body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not is_text and not isinstance(node, ast.Try | Function):
            yield node
        for inner in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(node, inner, []))
        for branch in (*getattr(node, "handlers", []), *getattr(node, "cases", [])):
            yield from _statements(branch.body)


def _own_lines(node: ast.stmt) -> range:
    """The lines of a statement without those of its block."""
    block = getattr(node, "body", None) or getattr(node, "cases", None)
    if not block:
        return range(node.lineno, (node.end_lineno or node.lineno) + 1)
    first = block[0].pattern.lineno if isinstance(block[0], ast.match_case) else block[0].lineno
    return range(node.lineno, max(first, node.lineno + 1))


def _first_line(text: str, node: ast.stmt) -> str:
    return text.splitlines()[node.lineno - 1].strip()


# --- the committed one ---------------------------------------------------------------------------------------


def committed(file: Path = FILE) -> Fingerprint:
    """The fingerprint on file."""
    told = json.loads(file.read_text("utf-8"))
    return Fingerprint(
        {name: tuple(commands) for name, commands in told["commands"].items()},
        {
            name: Uncovered(one["digest"], tuple(one["statements"]), one["because"])
            for name, one in told["uncovered"].items()
        },
    )


def write(fingerprint: Fingerprint, file: Path = FILE) -> None:
    """Put a fingerprint on file."""
    told: dict[str, Any] = {
        "commands": fingerprint.commands,
        "uncovered": {
            name: {"because": one.because, "digest": one.digest, "statements": one.statements}
            for name, one in fingerprint.uncovered.items()
        },
    }
    file.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", "utf-8")


def compare(old: Fingerprint, new: Fingerprint) -> Difference:
    """What changed, and what there is to do about it."""
    found = Difference()
    for name in sorted(old.commands | new.commands):
        _compare_commands(found, name, old.commands.get(name), new.commands.get(name))
    for name in sorted(old.uncovered | new.uncovered):
        before, now = old.uncovered.get(name), new.uncovered.get(name)
        if now is None:
            found.stale.append(f"{name}: covered by now, or gone; run with --write.")
        elif before is None or before.digest != now.digest:
            found.unvouched.append(_unvouched(name, now, is_new=before is None))
        elif len(before.statements) != len(now.statements):  # their text may differ in layout
            found.stale.append(f"{name}: covered differently; run with --write.")
    return found


def _compare_commands(
    found: Difference, name: str, before: tuple[str, ...] | None, now: tuple[str, ...] | None
) -> None:
    if before is None:
        found.stale.append(f"{name}: a new golden history; run with --write.")
    elif now is None:
        found.unvouched.append(
            f"{name}: the golden history is gone. It may go once no payment of its version can still run, or once it "
            "is accepted that those payments need their own build to the end: then say so with --write --because."
        )
    elif before != now:
        number, was, becomes = _first_difference(before, now)
        found.broken.append(
            f"{name}: command {number} is another one now.\n  was: {was}\n  now: {becomes}\n"
            "Workflows of this type that are under way cannot go on with this code. Either put the change behind "
            "workflow.patched, so that they keep to the old commands (Settlement and WebhookDelivery: always so), or, "
            "for Payment and Refund, which stay on their build: raise golden.VERSION, record anew "
            f"(python -m pytest tests/replay/record.py), and retire this history. {GUIDE}"
        )


def _first_difference(before: Sequence[str], now: Sequence[str]) -> tuple[int, str, str]:
    pairs = enumerate(zip_longest(before, now, fillvalue="(nothing)"), 1)
    return next((number, was, becomes) for number, (was, becomes) in pairs if was != becomes)


def _unvouched(name: str, now: Uncovered, *, is_new: bool) -> str:
    what = "is new" if is_new else "changed"
    never = "".join(f"\n    {statement}" for statement in now.statements[:8])
    reached = f" These statements are run by none:{never}\n" if never else " "
    return (
        f"{name}: {what}, and no golden history vouches for it.{reached}"
        "Add a scenario that reaches it (tests/replay/scenarios.py) and record it, or, if workflows under way keep to "
        f"their commands all the same, say why: python -m tests.replay.fingerprint --write --because '...'. {GUIDE}"
    )


def accepted(old: Fingerprint, new: Fingerprint, because: str) -> Fingerprint:
    """`new`, with the reasons of old where nothing changed and with `because` where something did."""
    reasons = {
        name: before.because
        for name, before in old.uncovered.items()
        if (now := new.uncovered.get(name)) is not None and now.digest == before.digest
    }
    told = {name: replace(one, because=reasons.get(name, because)) for name, one in new.uncovered.items()}
    return replace(new, uncovered=told)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, or write what may be written."""
    parser = argparse.ArgumentParser(prog="python -m tests.replay.fingerprint", description=__doc__)
    parser.add_argument("--write", action="store_true", help="bring the file up to date")
    parser.add_argument("--because", default="", help="why code that no golden history reaches may change")
    given = parser.parse_args(arguments)
    old = committed() if FILE.exists() else Fingerprint({}, {})
    new = asyncio.run(taken(golden.all_of_them()))
    found = compare(old, new)
    refused = found.broken or (found.unvouched and not given.because)
    if given.write and not refused:
        write(accepted(old, new, given.because))
        return 0
    sys.stderr.write(f"{found}\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
