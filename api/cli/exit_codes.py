"""Exit codes of `corridor`: scripts branch on them, so they never change their meaning."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_PERMITTED = 4
    CONFLICT = 5
    LIMITED = 6
    UNAVAILABLE = 7
    OUTCOME_UNKNOWN = 8
