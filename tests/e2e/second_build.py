"""A second build of Corridor: a copy of the tree with one change in its workflows, and a worker process that runs it."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from corridor.runtime import temporal_server
from corridor.runtime.build import source_digest
from tests.e2e.installation import Installation

ROOT = Path(__file__).parents[2]
PACKAGES = ("corridor", "workflows", "activities", "workers", "api")


class SecondBuild:
    """The copied tree; commands and workers of it talk to the installation that is given."""

    def __init__(self, here: Installation, directory: Path) -> None:
        self.tree = directory / "second"
        for package in PACKAGES:
            shutil.copytree(ROOT / package, self.tree / package, ignore=shutil.ignore_patterns("__pycache__"))
        self._here = here
        self._ready = directory / "second.ready"
        self._log = directory / "second.log"
        self._worker: subprocess.Popen[bytes] | None = None
        self.environment = {
            **here.environment,
            **temporal_server.own_environment(here.settings, "default"),
            "PYTHONPATH": str(self.tree),
            "CORRIDOR_METRICS_PORT": "0",
            "CORRIDOR_READY_FILE": str(self._ready),
        }

    def change(self, file: str, old: str, new: str) -> None:
        """Replace one piece of text, which must be there exactly once."""
        path = self.tree / file
        text = path.read_text("utf-8")
        assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times in {file}"
        path.write_text(text.replace(old, new), "utf-8")

    @property
    def build_id(self) -> str:
        return source_digest(self.tree)

    def corridor(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the second build."""
        return subprocess.run(  # noqa: S603
            [sys.executable, "-P", "-m", "api.cli.main", *command],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def start_worker(self) -> None:
        """A worker process beside those of the installation; returns once it asks for work."""
        with self._log.open("ab") as log:
            self._worker = subprocess.Popen(
                [sys.executable, "-P", "-m", "workers"],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        begun = time.monotonic()
        while not self._ready.exists():
            assert self._worker.poll() is None, self._log.read_text()
            assert time.monotonic() - begun < 30, self._log.read_text()
            time.sleep(0.1)

    def stop_worker(self) -> None:
        if self._worker is not None:
            self._worker.terminate()
            self._worker.wait(30)
