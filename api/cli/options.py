"""Options that many commands take, and what they become."""

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Default: CORRIDOR_DATA_DIR, else ./var.")]
Operator = Annotated[
    str | None,
    typer.Option(
        "--operator", help="Who gives this command, for the record; default: CORRIDOR_OPERATOR, else you."
    ),
]


def given(data_dir: Path | None, operator: str | None = None) -> dict[str, object]:
    """What was given, as settings."""
    named = {"data_dir": data_dir, "operator": operator}
    return {name: value for name, value in named.items() if value is not None}
