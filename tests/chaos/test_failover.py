"""The failover of the harness: what was acknowledged is on the new primary, and an old one that lies is caught."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.faults.failover import FENCED, NOT_FENCED, Acknowledged, Cluster
from tests.chaos.proxy.proxy import FaultProxy

SECONDS = 1.0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    # Not pytest's directory: the servers' own account cannot enter that.
    with tempfile.TemporaryDirectory(prefix="corridor-failover-") as place, FaultProxy() as proxy:
        Path(place).chmod(0o755)
        with Cluster(Path(place), proxy) as made:
            made.primary.query("CREATE TABLE mark (n INTEGER)")
            yield made


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_was_acknowledged_survives_failovers_and_crashes(cluster: Cluster) -> None:
    ports = set()
    for fault in (FENCED, NOT_FENCED, FENCED):
        cluster.primary.query("INSERT INTO mark SELECT count(*) FROM mark")
        ports.add(cluster.primary.port)
        was_done, note = cluster.fail_over(fault, SECONDS)
        assert was_done, note
        assert cluster.crash(cluster.pid)
    assert cluster.primary.query("SELECT string_agg(n::text, ' ' ORDER BY n) FROM mark") == "0 1 2"
    assert len(ports) == 3


@pytest.mark.slow
def test_a_dead_standby_is_started_again_and_commits_wait_for_it(cluster: Cluster) -> None:
    standby = cluster.standby
    assert standby is not None
    standby.stop_at_once()
    cluster.primary.query("INSERT INTO mark VALUES (1)", seconds=20)
    assert standby.query("SELECT n FROM mark") == "1"


@pytest.mark.slow
def test_an_old_primary_that_waits_for_nobody_is_caught(cluster: Cluster) -> None:
    cluster.primary.query("ALTER SYSTEM RESET synchronous_standby_names")
    cluster.primary.query("SELECT pg_reload_conf()")
    with pytest.raises(Acknowledged):
        cluster._not_fenced(20.0)


@pytest.mark.slow
def test_a_standby_that_is_not_in_step_is_not_promoted(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.chaos.faults.failover.IN_STEP_WITHIN_SECONDS", SECONDS)
    cluster.primary.query("ALTER SYSTEM RESET synchronous_standby_names")
    cluster.primary.query("SELECT pg_reload_conf()")
    before, standby = cluster.primary, cluster.standby
    was_done, _ = cluster.fail_over(FENCED, SECONDS)
    assert not was_done
    assert (cluster.primary, cluster.standby) == (before, standby)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_an_asynchronous_standby_lacks_is_lost_with_its_primary_and_nothing_else(
    cluster: Cluster,
) -> None:
    cluster.primary.query("INSERT INTO mark VALUES (1)")
    cluster.fall_behind()
    cluster.primary.query("INSERT INTO mark VALUES (2)")
    assert cluster.crash(cluster.pid)
    cluster.lose_what_is_ahead()
    assert cluster.primary.query("SELECT string_agg(n::text, ' ') FROM mark") == "1"
    cluster.primary.query("INSERT INTO mark VALUES (3)", seconds=20)
    assert cluster.standby is not None
    assert cluster.standby.query("SELECT string_agg(n::text, ' ' ORDER BY n) FROM mark") == "1 3"
