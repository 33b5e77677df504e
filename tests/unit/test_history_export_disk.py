"""A disk that is full costs a continuous export passes, and no history."""

import errno
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from corridor.runtime.histories import Run, is_closed
from corridor.storage.sealing import Sealer
from tests.replay import golden
from workers.histories import archive as archiving
from workers.histories import export as exporting
from workers.histories.archive import Archive
from workers.histories.export import Reached, follow

NOBODY: Any = None
"""No server is asked."""


async def test_a_continuous_export_outlives_a_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by soak seed 20261138, in which an export met one full disk after the other."""
    (run,) = [
        Run(it.history, it.history.run_id, False) for it in golden.all_of_them() if is_closed(it.history)
    ][:1]

    async def listed(_: Any, __: str) -> AsyncIterator[Any]:
        end = run.history.events[-1].event_time.ToDatetime(tzinfo=UTC)
        yield SimpleNamespace(id=run.workflow_id, run_id=run.run_id, close_time=end)

    async def fetched(*_: Any) -> Run:
        return run

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(exporting, "listed", listed)
    monkeypatch.setattr(exporting, "fetch", fetched)
    archive = Archive(tmp_path, Sealer("k1", {"k1": b"1" * 32}), "default")
    now, soon = lambda: datetime.now(UTC), timedelta(milliseconds=10)
    passes = follow(NOBODY, archive, "b1", now, None, soon, soon, Reached())
    with archive.writing():
        with monkeypatch.context() as struck:
            struck.setattr(archiving.os, "fsync", full)
            failed = await anext(passes)
        assert failed.trouble is not None
        assert "the archive: [Errno 28] No space left on device" in str(failed)
        done = await anext(passes)
    assert (done.written, done.trouble) == (1, None)
    assert archive.verify().holds
