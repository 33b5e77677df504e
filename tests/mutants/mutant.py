"""A planted bug: one patch file that says what is wrong, what it stands for, and which checks must notice.

The file is a unified diff below a few `Name: value` lines. A hunk is found by its text, never by its line numbers, and
must fit exactly once; so patches survive edits around them, and say loudly when the code they are about has changed.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PATCHES = Path(__file__).parent / "patches"


class DoesNotApply(Exception):
    """The code a patch is about has changed: the patch has to be written anew."""


class BadPatch(Exception):
    """The patch file itself is not what it should be."""


@dataclass(frozen=True)
class Hunk:
    """Lines that stand together in a file, and what takes their place."""

    old: tuple[str, ...]
    new: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """What is done to one file, by its path from the root of the tree."""

    path: str
    hunks: tuple[Hunk, ...]


@dataclass(frozen=True)
class Mutant:
    """One deliberate defect. `checks` are pytest selections, the quickest first."""

    name: str
    bug: str
    stands_for: str
    checks: tuple[str, ...]
    changes: tuple[Change, ...]

    def texts(self, root: Path) -> dict[str, str]:
        """The changed files of the tree at `root`, as they would read. Raises `DoesNotApply`."""
        return {change.path: self._text(root, change) for change in self.changes}

    def plant(self, root: Path) -> None:
        """Write the bug into the tree at `root`. Raises `DoesNotApply`, with nothing written."""
        for path, text in self.texts(root).items():
            (root / path).write_text(text, "utf-8")

    def _text(self, root: Path, change: Change) -> str:
        target = root / change.path
        if not target.is_file():
            raise DoesNotApply(f"{self.name}: there is no {change.path}")
        lines = target.read_text("utf-8").splitlines()
        for number, hunk in enumerate(change.hunks, start=1):
            found = list(_places(lines, hunk.old))
            if len(found) != 1:
                where = f"hunk {number} of {change.path}"
                raise DoesNotApply(f"{self.name}: {where} fits {len(found)} places, not one")
            lines[found[0] : found[0] + len(hunk.old)] = hunk.new
        text = "\n".join(lines) + "\n"
        _compiled(self.name, change.path, text)
        return text


def all_of_them() -> list[Mutant]:
    """Every planted bug, by name."""
    return [read(path) for path in sorted(PATCHES.glob("*.patch"))]


def read(path: Path) -> Mutant:
    """Raises `BadPatch`."""
    head, separator, diff = path.read_text("utf-8").partition("\n--- ")
    said = [line.split(": ", 1) for line in head.splitlines() if line]
    if not separator or any(len(pair) != 2 for pair in said):
        raise BadPatch(f"{path.name}: `Name: value` lines and a unified diff are expected")
    checks = tuple(value for name, value in said if name == "Caught by")
    words = {name: value for name, value in said if name != "Caught by"}
    if set(words) != {"Bug", "Stands for"} or not checks:
        raise BadPatch(f"{path.name}: says {sorted(words)} and names {len(checks)} checks")
    changes = tuple(_change(path.name, part) for part in f"\n{diff}".split("\n--- ") if part.strip())
    return Mutant(path.stem, words["Bug"], words["Stands for"], checks, changes)


def _change(name: str, part: str) -> Change:
    before, after, *body = part.strip("\n").splitlines()
    path = before.removeprefix("--- ").removeprefix("a/")
    if after != f"+++ b/{path}" or not body or not body[0].startswith("@@"):
        raise BadPatch(f"{name}: the diff of {before} is not one of a file that stays where it is")
    starts = [index for index, line in enumerate(body) if line.startswith("@@")]
    ends = [*starts[1:], len(body)]
    return Change(path, tuple(_hunk(body[start + 1 : end]) for start, end in zip(starts, ends, strict=True)))


def _hunk(lines: Sequence[str]) -> Hunk:
    old = tuple(line[1:] for line in lines if line[:1] in ("", " ", "-"))
    new = tuple(line[1:] for line in lines if line[:1] in ("", " ", "+"))
    return Hunk(old, new)


def _places(lines: Sequence[str], wanted: tuple[str, ...]) -> Iterator[int]:
    width = len(wanted)
    return (start for start in range(len(lines) - width + 1) if tuple(lines[start : start + width]) == wanted)


def _compiled(name: str, path: str, text: str) -> None:
    try:
        ast.parse(text, path)
    except SyntaxError as error:
        raise BadPatch(f"{name}: {path} no longer compiles: {error}") from error
