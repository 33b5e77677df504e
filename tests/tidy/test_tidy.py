"""What linters cannot say about this code base. Each rule has its reason beside it."""

import ast
import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("corridor", "workflows", "activities", "workers", "api")
MOST_LINES_OF_A_FUNCTION = 70
MOST_LINES_OF_A_MODULE = 400
# Where an amount or a rate may pass: floats round it, and a clock read there cannot be replayed or tested.
NEAR_MONEY = ("corridor/domain", "corridor/ledger", "corridor/fx")
CLOCKS = {"now", "utcnow", "today", "time", "monotonic"}
CLOCK_OWNERS = {"datetime", "date", "time"}
JUNK_DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc"}
FORBIDDEN_WORDS = re.compile(r"\b(TODO|FIXME|HACK|NotImplementedError)\b")


def _sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


MODULES = _sources(*PACKAGES)
EVERYTHING = _sources(*PACKAGES, "tests", "benchmarks")
NEAR_MONEY_MODULES = _sources(*NEAR_MONEY)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_there_is_something_to_check() -> None:
    assert len(MODULES) > 30
    assert NEAR_MONEY_MODULES


@pytest.mark.parametrize("path", EVERYTHING, ids=_name)
def test_functions_fit_a_screen(path: Path) -> None:
    long = [
        f"{function.name}: {lines} lines"
        for function in _functions(_tree(path))
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > MOST_LINES_OF_A_FUNCTION
    ]
    assert not long


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_modules_stay_readable_in_one_sitting(path: Path) -> None:
    if path.parent.name == "versions":
        pytest.skip("a migration is a record of one day's tables, not something that is read to be changed")
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES_OF_A_MODULE


@pytest.mark.parametrize("path", EVERYTHING, ids=_name)
def test_a_module_opens_by_saying_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(_tree(path)), "no docstring"


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=_name)
def test_init_files_hold_a_docstring_only(path: Path) -> None:
    # Code there runs on every import below it, and re-exports hide where a name lives.
    assert len(_tree(path).body) == 1


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_no_module_is_a_junk_drawer(path: Path) -> None:
    assert not JUNK_DRAWERS & {path.stem, *path.relative_to(ROOT).parts}


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_nothing_is_left_for_later(path: Path) -> None:
    assert not FORBIDDEN_WORDS.findall(path.read_text("utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_no_function_is_a_placeholder(path: Path) -> None:
    empty = [
        function.name
        for function in _functions(_tree(path))
        if any(isinstance(statement, ast.Pass) for statement in function.body)
    ]
    assert not empty


def _durations(tree: ast.Module) -> set[ast.AST]:
    """Everything inside an argument or a variable called `…_seconds`: a timeout may be a fraction."""
    named = (
        node
        for node in ast.walk(tree)
        if (isinstance(node, ast.arg) and node.arg.endswith("_seconds"))
        or (isinstance(node, ast.keyword) and str(node.arg).endswith("_seconds"))
        or (isinstance(node, ast.AnnAssign) and ast.unparse(node.target).lower().endswith("_seconds"))
        or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).lower().endswith("_seconds"))
    )
    inside = {inner for node in named for inner in ast.walk(node)}
    # A default value is no child of its argument.
    for function in _functions(tree):
        arguments = [*function.args.posonlyargs, *function.args.args][-len(function.args.defaults) :]
        pairs = [
            *zip(arguments, function.args.defaults, strict=False),
            *zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True),
        ]
        inside |= {default for argument, default in pairs if default and argument.arg.endswith("_seconds")}
    return inside


@pytest.mark.parametrize("path", NEAR_MONEY_MODULES, ids=_name)
def test_no_float_comes_near_money(path: Path) -> None:
    tree = _tree(path)
    durations = _durations(tree)
    floats = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if node not in durations
        and (
            (isinstance(node, ast.Name) and node.id == "float")
            or (isinstance(node, ast.Constant) and isinstance(node.value, float))
        )
    ]
    assert not floats


@pytest.mark.parametrize("path", [*NEAR_MONEY_MODULES, *_sources("workflows")], ids=_name)
def test_inner_code_reads_no_clock(path: Path) -> None:
    calls = [node.func for node in ast.walk(_tree(path)) if isinstance(node, ast.Call)]
    clocks = [
        f"line {func.lineno}: {ast.unparse(func)}"
        for func in calls
        if isinstance(func, ast.Attribute)
        and func.attr in CLOCKS
        and ast.unparse(func.value).rpartition(".")[2] in CLOCK_OWNERS
    ]
    assert not clocks


def test_no_other_distribution_owns_our_package_names() -> None:
    # `api`, `workers`, `workflows` and `activities` are generic: an install could overwrite them silently.
    owners = importlib.metadata.packages_distributions()
    strangers = {name: set(owners.get(name, ())) - {"corridor"} for name in PACKAGES}
    assert not any(strangers.values()), strangers


@pytest.mark.parametrize("lock", ["app", "dev"])
def test_locks_pin_by_hash_and_name_no_address(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.lock").read_text("utf-8")
    pins = re.findall(r"^([a-z0-9._-]+)==\S+(.*(?:\n    .*)*)", text, re.MULTILINE)
    assert len(pins) > 40
    assert not [name for name, rest in pins if "--hash=sha256:" not in rest]
    assert "://" not in text


def test_the_locks_agree_where_they_overlap() -> None:
    pins = [
        dict(
            re.findall(
                r"^([a-z0-9._-]+)==(\S+)", (ROOT / "requirements" / f"{lock}.lock").read_text(), re.MULTILINE
            )
        )
        for lock in ("app", "dev")
    ]
    assert {name: pins[1].get(name) for name in pins[0]} == pins[0]
