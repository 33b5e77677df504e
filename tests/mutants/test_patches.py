"""Planted bugs do not rot: every patch fits this tree, changes code, compiles, and names checks that exist."""

import ast
from pathlib import Path

import pytest

from tests.mutants import mutant
from tests.mutants.mutant import BadPatch, Change, DoesNotApply, Hunk, Mutant
from tests.mutants.trial import ROOT

MUTANTS = mutant.all_of_them()
each_mutant = pytest.mark.parametrize("planted", MUTANTS, ids=lambda one: one.name)
SHIPPED = ("corridor/", "workflows/", "activities/", "workers/", "api/")


def test_there_are_at_least_twelve() -> None:
    assert len(MUTANTS) >= 12


@each_mutant
def test_the_patch_fits_and_changes_code_that_is_shipped(planted: Mutant) -> None:
    for path, text in planted.texts(ROOT).items():
        assert path.startswith(SHIPPED)
        before = ast.dump(ast.parse((ROOT / path).read_text("utf-8")))
        assert ast.dump(ast.parse(text)) != before, f"{path}: only its looks are changed"


@each_mutant
def test_the_patch_says_what_it_is_in_a_sentence(planted: Mutant) -> None:
    assert planted.bug.endswith(".") and planted.stands_for.endswith(".")


@each_mutant
def test_the_checks_it_names_exist(planted: Mutant) -> None:
    for check in planted.checks:
        file, *names = check.partition("[")[0].split("::")
        source = (ROOT / file).read_text("utf-8")
        # A conformance suite's tests are inherited: they stand in another file.
        inherited = (ROOT / "corridor/providers/conformance.py").read_text("utf-8")
        assert all(f" {name}(" in source + inherited or f" {name}:" in source for name in names), check


def test_a_patch_that_no_longer_fits_says_which_file(tmp_path: Path) -> None:
    change = Change("a.py", (Hunk(("x = 1",), ("x = 2",)),))
    planted = Mutant("one", "Bug.", "Incident.", ("tests",), (change,))
    for text, trouble in (("y = 1\n", "fits 0 places"), ("x = 1\nx = 1\n", "fits 2 places")):
        (tmp_path / "a.py").write_text(text, "utf-8")
        with pytest.raises(DoesNotApply, match=rf"one: hunk 1 of a\.py {trouble}"):
            planted.plant(tmp_path)
        assert (tmp_path / "a.py").read_text("utf-8") == text
    (tmp_path / "a.py").unlink()
    with pytest.raises(DoesNotApply, match=r"there is no a\.py"):
        planted.plant(tmp_path)


def test_a_hunk_is_found_by_its_text_wherever_it_moved(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import os\n\n\ndef f() -> int:\n    return 1\n", "utf-8")
    patch = tmp_path / "off_by_one.patch"
    patch.write_text(
        "Bug: It counts one too many.\nStands for: A fence and its posts.\nCaught by: tests/unit/test_f.py\n\n"
        "--- a/a.py\n+++ b/a.py\n@@ -90,2 +90,2 @@\n def f() -> int:\n-    return 1\n+    return 2\n",
        "utf-8",
    )
    planted = mutant.read(patch)
    planted.plant(tmp_path)
    assert planted.checks == ("tests/unit/test_f.py",)
    assert (tmp_path / "a.py").read_text("utf-8").endswith("def f() -> int:\n    return 2\n")


@pytest.mark.parametrize(
    "text",
    [
        "Bug: no check.\nStands for: x.\n\n--- a/a.py\n+++ b/a.py\n@@ @@\n-x\n+y\n",
        "Bug: no diff.\nStands for: x.\nCaught by: tests\n",
        "Bug: moved.\nStands for: x.\nCaught by: tests\n\n--- a/a.py\n+++ b/b.py\n@@ @@\n-x\n+y\n",
    ],
    ids=["no check", "no diff", "another file"],
)
def test_a_patch_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.patch").write_text(text, "utf-8")
    with pytest.raises(BadPatch):
        mutant.read(tmp_path / "bad.patch")
