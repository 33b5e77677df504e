"""What commands print: data on stdout, talk on stderr."""

import json
import sys
from collections.abc import Mapping


def document(data: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(data, indent=2, default=str) + "\n")


def line(text: str) -> None:
    """A line of data on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()  # a command that stays up must not keep its addresses to itself


def talk(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def pairs(rows: Mapping[str, str]) -> None:
    """Names and values in two aligned columns on stdout."""
    width = max(map(len, rows), default=0)
    for name, value in rows.items():
        line(f"{name:<{width}}  {value}")
