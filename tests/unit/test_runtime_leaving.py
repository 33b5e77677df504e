"""A program that used Temporal's client ends with its own status, and what it had to say is said."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("given", "status"), [("0", 0), ("3", 3), ("None", 0), ("'text'", 1)])
@pytest.mark.parametrize(
    "client", ["", "import temporalio.bridge.temporal_sdk_bridge"], ids=["plain", "client"]
)
def test_the_status_is_the_programs_own(client: str, given: str, status: int) -> None:
    program = f"""
import atexit
{client}
from corridor.runtime.leaving import leave
atexit.register(print, "cleaned up")
print("done")
leave({given})
"""
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (status, "done\ncleaned up\n"), ended.stderr
