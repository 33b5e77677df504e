"""Options that many commands take, and what they become."""

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Default: CORRIDOR_DATA_DIR, else ./var.")]


def given(data_dir: Path | None) -> dict[str, Path]:
    """What was given, as settings."""
    return {} if data_dir is None else {"data_dir": data_dir}
