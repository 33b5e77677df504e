"""The build id: a name for the workflow code at hand, so that Temporal can keep a payment on the code it began on.

It names what a history depends on and nothing else: workflow code, the steps' contracts, the domain they are written
in. A corrected adapter or API keeps the id and is rolled out in place, under payments of every age; only a change of
the workflows makes a new version that runs beside the old one. Comments, docstrings and layout do not count.
"""

import ast
import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import corridor
from corridor.runtime.refused import SettingsRefused
from corridor.runtime.settings import Settings

SOURCE = Path(corridor.__file__).parent.parent
PROTOCOL = ("workflows", "activities/contracts.py", "corridor/domain")
"""What workflow code consists of: everything of ours that importing the workflows imports (held by a test)."""
BESIDES = ("workflows/starts.py",)
"""Lies among the workflows and is run by those who start them, never by a replay."""
DIGEST_LENGTH = 12


def build_id(settings: Settings) -> str:
    """The configured id, else the digest of the workflow code. Raises `SettingsRefused` where no source is kept."""
    return settings.build_id or source_digest(SOURCE)


@functools.cache
def source_digest(source: Path) -> str:
    """Digest of what the workflows under `source` mean to a replay."""
    files = sorted(protocol_files(source))
    if not files:
        raise SettingsRefused("this installation has no source to name its build by; set CORRIDOR_BUILD_ID")
    told = [(str(file.relative_to(source)), normal_form(ast.parse(file.read_bytes()))) for file in files]
    return digest(told)


def digest(told: object) -> str:
    """A short, stable name for a value that JSON can carry."""
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:DIGEST_LENGTH]


def protocol_files(source: Path) -> Iterator[Path]:
    """The files of the workflow code under `source`."""
    besides = {source / file for file in BESIDES}
    for part in PROTOCOL:
        path = source / part
        found = path.rglob("*.py") if path.is_dir() else [path] if path.exists() else []
        yield from (file for file in found if file not in besides)


def normal_form(node: Any) -> Any:
    """Code without its comments, docstrings and layout, as JSON would carry it.

    Empty fields are left out: Python's releases add fields, and the same code must keep its name under each.
    """
    if isinstance(node, list):
        return [normal_form(item) for item in node if not _is_docstring(item)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: normal_form(value) for name, value in ast.iter_fields(node)}
    told = {name: value for name, value in sorted(fields.items()) if value not in ([], "None")}
    return [type(node).__name__, told]


def _is_docstring(item: object) -> bool:
    """A string that stands alone says something to readers only, wherever it stands."""
    return (
        isinstance(item, ast.Expr)
        and isinstance(item.value, ast.Constant)
        and isinstance(item.value.value, str)
    )
