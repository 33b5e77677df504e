"""The archive of histories: adds only what is new, reveals nothing, and names the first line that was tampered with."""

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory

from corridor.runtime.histories import Run, Unopened, is_closed
from corridor.storage.sealing import Sealer
from tests.replay import golden
from workers.histories.archive import HEAD, MANIFEST, Archive, ArchiveDamaged, ArchiveInUse

RING = Sealer("k1", {"k1": b"1" * 32})
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def _runs() -> list[Run]:
    histories = [it.history for it in golden.all_of_them()][:6]
    return [Run(history, history.run_id, not is_closed(history)) for history in histories]


def _shorter(run: Run) -> Run:
    """The run as it stood some events ago."""
    history = WorkflowHistory(run.workflow_id, run.history.events[:-3])
    return Run(history, run.run_id, is_running=True)


def _archive(directory: Path, sealer: Sealer = RING) -> Archive:
    return Archive(directory, sealer, "default")


def _add(directory: Path, runs: list[Run]) -> int:
    """One export; returns how many lines it wrote."""
    with _archive(directory).writing() as archive:
        added = [archive.add(run, NOW, "build-1") for run in runs]
        archive.seal_head(NOW)
    return len([line for line in added if line is not None])


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    assert _add(tmp_path, _runs()) == 6
    return tmp_path


@contextmanager
def _room_for(size: int) -> Iterator[None]:
    """No file of this process may grow beyond it, as on a disk that is full: a write is cut short, the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_a_full_disk_cuts_short_leaves_nothing_behind_and_is_archived_when_there_is_room(
    tmp_path: Path,
) -> None:
    """Both kinds of file: a history of which a part was written, and the manifest's line about it."""
    first, second = _runs()[:2]
    with _archive(tmp_path).writing() as archive:
        assert archive.add(first, NOW, "build-1") is not None
        manifest = (tmp_path / MANIFEST).read_bytes()
        files = set(tmp_path.rglob("*"))
        with _room_for(100), pytest.raises(OSError):
            archive.add(second, NOW, "build-1")
        assert set(tmp_path.rglob("*")) == files
        with _room_for(1 << 20):
            assert archive.add(second, NOW, "build-1") is not None
        archive.seal_head(NOW)
    assert (tmp_path / MANIFEST).read_bytes().startswith(manifest)
    assert _archive(tmp_path).verify().holds


def test_a_line_that_a_full_disk_cuts_short_is_taken_back(tmp_path: Path) -> None:
    """Behind the part of a line the next one would be unreadable, and the archive damaged for good."""
    runs = _runs()
    with _archive(tmp_path).writing() as archive:
        for run in runs[:-1]:
            archive.add(run, NOW, "build-1")
        manifest = (tmp_path / MANIFEST).read_bytes()
        line = archive._line(runs[-1], b"{}", NOW, "build-1").chained()
        with _room_for(len(manifest) + 20), pytest.raises(OSError):
            archive._append(line)
        assert (tmp_path / MANIFEST).read_bytes() == manifest
        assert archive.add(runs[-1], NOW, "build-1") is not None
        archive.seal_head(NOW)
    assert _archive(tmp_path).verify().holds


def test_a_second_export_adds_nothing(filled: Path) -> None:
    before = (filled / MANIFEST).read_bytes()
    assert _add(filled, _runs()) == 0
    assert (filled / MANIFEST).read_bytes() == before


def test_a_run_that_went_on_is_a_later_line_and_its_newest_version_is_read(tmp_path: Path) -> None:
    run = _runs()[0]
    assert _add(tmp_path, [_shorter(run)]) == 1
    assert _add(tmp_path, [run]) == 1
    first, second = _archive(tmp_path).lines()
    assert (first.status, second.events - first.events) == ("running", 3)
    assert second.previous == first.hash
    assert [line.number for line in _archive(tmp_path).newest()] == [2]
    assert _add(tmp_path, [_shorter(run)]) == 0, "an older version is never put over a newer one"


async def test_what_was_archived_comes_back_as_it_was(filled: Path) -> None:
    back = {run.run_id: run async for run in _archive(filled).runs() if isinstance(run, Run)}
    for run in _runs():
        assert back[run.run_id].history.to_json() == run.history.to_json()
        assert back[run.run_id].is_running == run.is_running


async def test_since_leaves_out_what_ended_before(filled: Path) -> None:
    newest = max(line.last_event_at for line in _archive(filled).lines())
    after = datetime.fromisoformat(newest) + timedelta(seconds=1)
    found = [run async for run in _archive(filled).runs(after)]
    assert all(isinstance(run, Run) and run.is_running for run in found)
    assert len(found) == len([run for run in _runs() if run.is_running])


async def test_what_is_not_wanted_is_not_opened(filled: Path) -> None:
    """By the manifest, which says of what type each is; a file that is gone would be missed otherwise."""
    wanted, *others = _archive(filled).lines()
    alike = [line for line in others if line.type == wanted.type]
    for line in others:
        (filled / line.file).unlink()
    besides = {line.run_id for line in alike}
    found = [run async for run in _archive(filled).runs(types=(wanted.type,), besides=besides)]
    assert [run.run_id for run in found] == [wanted.run_id]
    with pytest.raises(ArchiveDamaged):
        [run async for run in _archive(filled).runs()]


def test_files_reveal_no_id_and_are_written_once(filled: Path) -> None:
    for line in _archive(filled).lines():
        path = filled / line.file
        assert line.workflow_id.encode() not in path.read_bytes()
        assert path.stat().st_mode & 0o222 == 0
        assert line.keys[0] == "k1"


def test_an_untouched_archive_holds(filled: Path) -> None:
    verified = _archive(filled).verify()
    assert verified.holds, verified.bad
    assert (verified.lines, verified.opened) == (6, 6)
    assert verified.head == list(_archive(filled).lines())[-1].hash


def _flip_a_byte(directory: Path) -> None:
    _of_line(directory, 3, lambda path: _write(path, _flipped(path.read_bytes())))


def _remove_a_file(directory: Path) -> None:
    _of_line(directory, 3, Path.unlink)


def _swap_two_files(directory: Path) -> None:
    lines = list(_archive(directory).lines())
    third, fourth = directory / lines[2].file, directory / lines[3].file
    one, other = third.read_bytes(), fourth.read_bytes()
    _write(third, other)
    _write(fourth, one)


def _change_a_line(directory: Path) -> None:
    _rewrite(directory, lambda lines: [*lines[:2], {**lines[2], "status": "failed"}, *lines[3:]])


def _drop_a_line(directory: Path) -> None:
    _rewrite(directory, lambda lines: [*lines[:2], *lines[3:]])


def _reorder_lines(directory: Path) -> None:
    _rewrite(directory, lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]])


def _cut_the_end_off(directory: Path) -> None:
    _rewrite(directory, lambda lines: lines[:2])


@pytest.mark.parametrize(
    "damage",
    [
        _flip_a_byte, _remove_a_file, _swap_two_files, _change_a_line, _drop_a_line, _reorder_lines, _cut_the_end_off,
    ],
)  # fmt: skip
def test_damage_is_named_by_its_line(filled: Path, damage: Callable[[Path], None]) -> None:
    damage(filled)
    verified = _archive(filled).verify()
    assert verified.bad is not None
    assert verified.bad.startswith("line 3:"), verified.bad
    assert verified.lines == 2


def test_a_forged_line_with_the_right_hashes_still_needs_the_key(filled: Path) -> None:
    """Whoever rewrites the chain from a line on can make every hash agree; the sealed head does not."""
    lines = list(_archive(filled).lines())[:-1]
    (filled / MANIFEST).write_text("".join(line.written() for line in lines))
    without = _archive(filled).verify(with_keys=False)
    assert without.holds, "the chain alone cannot show an end cut off"
    assert _archive(filled).verify().bad == "line 6: missing; the archive went to line 6"


def test_without_the_key_ring_chain_and_digests_can_be_checked(filled: Path) -> None:
    stranger = Sealer("k9", {"k9": b"9" * 32})
    assert _archive(filled, stranger).verify(with_keys=False).holds
    assert _archive(filled, stranger).verify().bad == "line 1: key 'k1' is not in the ring"


def test_files_sealed_under_an_old_key_open_after_a_rotation(filled: Path) -> None:
    rotated = Sealer("k2", {"k1": b"1" * 32, "k2": b"2" * 32})
    assert _archive(filled, rotated).verify().holds


async def test_a_file_under_a_lost_key_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    first, second, *_ = _runs()
    ring = {"k1": b"1" * 32, "k2": b"2" * 32}
    for current, run in (("k1", first), ("k2", second)):
        with _archive(tmp_path, Sealer(current, ring)).writing() as archive:
            archive.add(run, NOW, "build-1")
    found = [it async for it in _archive(tmp_path, Sealer("k2", {"k2": b"2" * 32})).runs()]
    assert found[0] == Unopened(first.workflow_id, first.run_id, "k1")
    assert [it.run_id for it in found] == [first.run_id, second.run_id]
    assert isinstance(found[1], Run)


def test_a_line_torn_by_a_crash_is_cut_and_written_again(filled: Path) -> None:
    manifest = filled / MANIFEST
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-40])
    (filled / HEAD).unlink()
    assert _add(filled, _runs()) == 1
    assert _archive(filled).verify().holds


def test_a_manifest_that_is_damaged_is_not_written_on(filled: Path) -> None:
    (filled / MANIFEST).write_text("not a line\n")
    with pytest.raises(ArchiveDamaged, match="line 1"), _archive(filled).writing():
        pass


def test_two_exports_do_not_write_at_once(filled: Path) -> None:
    with _archive(filled).writing(), pytest.raises(ArchiveInUse), _archive(filled).writing():
        pass
    with _archive(filled).writing():
        pass


def _of_line(directory: Path, number: int, act: Callable[[Path], None]) -> None:
    line = list(_archive(directory).lines())[number - 1]
    act(directory / line.file)


def _write(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)


def _flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def _rewrite(directory: Path, change: Callable[[list[dict[str, object]]], list[dict[str, object]]]) -> None:
    manifest = directory / MANIFEST
    lines = [json.loads(text) for text in manifest.read_text().splitlines()]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in change(lines)))
