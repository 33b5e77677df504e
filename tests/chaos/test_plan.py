"""The plan of a fault run: the same seed is the same run, and every profile asks for every kind of fault."""

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from unittest import mock

import pytest

from tests.chaos.arrivals import Story
from tests.chaos.faults import failover, temporal
from tests.chaos.faults.network import DATABASE_EDGES, GRPC_EDGES, edges, kinds
from tests.chaos.plan import LONG_PAUSE_SECONDS, Kind, expand
from tests.chaos.profile import PROCESSES, PROFILES
from tests.chaos.proxy.fault import HTTP_ONLY, FaultKind
from tests.chaos.stand import WORKERS, apart, settings_for, targets

DATABASES = ("sqlite", "postgresql")
FIRES_PERCENT = 87
"""Of the planned faults; the rest find nothing to meet, above all those that come with a card which is tried once."""


@pytest.mark.parametrize("database", DATABASES)
def test_the_same_seed_makes_the_same_plan(database: str) -> None:
    first, second = (expand(7, PROFILES["smoke"], database) for _ in range(2))
    assert first == second
    assert first.digest() == second.digest()
    assert expand(8, PROFILES["smoke"], database).digest() != first.digest()


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_plans_every_kind_of_fault(name: str, database: str) -> None:
    plan = expand(1, PROFILES[name], database)
    restores = set() if PROFILES[name].restores else {Kind.RESTORE}
    failovers = {Kind.FAILOVER} if database == "sqlite" else set()
    losses = set() if PROFILES[name].temporal_losses else {Kind.TEMPORAL_LOST}
    rollouts = set() if PROFILES[name].rollouts else {Kind.ROLLOUT}
    assert {act.kind for act in plan.acts} == set(Kind) - restores - failovers - losses - rollouts
    killed = {act.target for act in plan.acts if act.kind is Kind.KILL}
    assert killed >= set(PROCESSES) | ({"database"} if database == "postgresql" else set())
    assert {arrival.story for arrival in plan.arrivals} == set(Story)


@pytest.mark.parametrize("database", DATABASES)
def test_every_edge_is_broken_in_every_profile(database: str) -> None:
    for profile in PROFILES.values():
        acts = [act for act in expand(1, profile, database).acts if act.kind is Kind.NETWORK]
        assert {act.target for act in acts} == set(edges(database))


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("name", ["smoke", "soak"])
def test_every_edge_gets_everything_that_it_can_carry(name: str, database: str) -> None:
    acts = [act for act in expand(1, PROFILES[name], database).acts if act.kind is Kind.NETWORK]
    for edge in edges(database):
        drawn = [act.words for act in acts if act.target == edge]
        assert {words["fault"] for words in drawn} == kinds(edge)
        stays_whole = edge in GRPC_EDGES + DATABASE_EDGES
        assert kinds(edge) == (set(FaultKind) - HTTP_ONLY if stays_whole else set(FaultKind))
        for words in drawn:
            lost = words["fault"] == FaultKind.DROP_RESPONSE_AFTER_FORWARD
            assert lost == ("call" in words or words.get("only") == "changes"), words


@pytest.mark.parametrize(
    ("profile", "databases", "at_least"),
    [("smoke", ["sqlite"], (2_000, 150, 2_000)), ("soak", DATABASES, (20_000, 1_500, 20_000))],
)
def test_runs_are_as_large_as_their_records_claim(
    profile: str, databases: Sequence[str], at_least: tuple[int, int, int]
) -> None:
    payments = kills = others = 0
    for plan in (expand(1, PROFILES[profile], database) for database in databases):
        struck = sum(act.kind is Kind.KILL for act in plan.acts)
        payments, kills = payments + len(plan.arrivals), kills + struck
        # A kill that finds nobody is tried again, but not for ever.
        assert struck * 94 // 100 >= plan.profile.least_kills == at_least[1] // len(databases)
        assert plan.profile.least_other_faults == at_least[2] // len(databases)
        others += len(plan.acts) - struck + sum(bool(arrival.fault) for arrival in plan.arrivals)
    fired = others * FIRES_PERCENT // 100
    assert all(found >= wanted for found, wanted in zip((payments, kills, fired), at_least, strict=True))


@pytest.mark.parametrize("database", DATABASES)
def test_every_edge_of_a_plan_leads_through_the_proxy(database: str, tmp_path: Path) -> None:
    """And nobody goes round it: each address that a process is told of is an edge's."""
    url = "postgresql+psycopg://corridor@127.0.0.1:5433/corridor" if database == "postgresql" else None
    with mock.patch.dict(os.environ):
        settings = settings_for(tmp_path, url)
    ways = {name: f"127.0.0.1:{20_000 + number}" for number, name in enumerate(targets(settings))}
    assert set(ways) == set(edges(database))
    told = apart(settings, ways, {})
    for name in ("api", *WORKERS):
        assert told[name]["CORRIDOR_LIQUIDITY_URL"] == f"http://{ways[f'{name}-provider']}/lp"
        assert told[name]["TEMPORAL_ADDRESS"] == ways[f"{name}-temporal"]
        if url is not None:
            assert ways[f"{name}-database"] in told[name]["DATABASE_URL"]


def test_nothing_is_planned_for_after_the_faults_end() -> None:
    plan = expand(3, PROFILES["smoke"], "postgresql")
    lasts = [
        act.at_seconds + float(act.words.get("seconds", 0)) for act in plan.acts if act.kind is Kind.PAUSE
    ]
    assert max(lasts) <= plan.profile.safety_seconds
    assert max(act.at_seconds for act in plan.acts) <= plan.profile.safety_seconds


def test_every_process_is_paused_for_longer_than_an_activity_may_run() -> None:
    for name in ("smoke", "soak"):
        acts = [act for act in expand(1, PROFILES[name], "sqlite").acts if act.kind is Kind.PAUSE]
        long = [act.target for act in acts if act.words["seconds"] == LONG_PAUSE_SECONDS]
        assert set(long) == set(PROCESSES)
        assert len(long) <= len(acts) / 5, "what stands still all the time is not broken but switched off"


def test_a_smaller_run_keeps_one_of_everything() -> None:
    sized = PROFILES["soak"].sized(payments=10, minutes=1)
    assert min(sized.kills.values()) == 1
    assert {act.kind for act in expand(1, sized, "sqlite").acts} == set(Kind) - {Kind.FAILOVER}


def test_a_profile_says_how_it_is_asked_for() -> None:
    assert PROFILES["soak"].as_asked == "--profile soak"
    sized = PROFILES["soak"].sized(payments=10, minutes=1.5)
    assert sized.as_asked == "--profile soak --payments 10 --minutes 1.5"


def test_terminations_and_resets_strike_every_kind_of_workflow_in_a_run() -> None:
    plan = expand(5, PROFILES["smoke"], "sqlite")
    for kind in (Kind.TERMINATE, Kind.RESET):
        acts = [act for act in plan.acts if act.kind is kind]
        assert {act.target for act in acts} == set(temporal.VICTIMS)
        assert all(0 <= float(act.words["share"]) < 1 for act in acts)


def test_rollouts_follow_one_another_and_end_within_the_faults() -> None:
    for name in (name for name, profile in PROFILES.items() if profile.rollouts):
        plan = expand(5, PROFILES[name], "sqlite")
        ends = 0.0
        for act in (it for it in plan.acts if it.kind is Kind.ROLLOUT):
            assert act.at_seconds > ends
            ends = act.at_seconds + float(act.words["seconds"])
        assert 0 < ends < plan.profile.safety_seconds


def test_failovers_come_fenced_and_not_and_one_after_the_other() -> None:
    acts = [act for act in expand(5, PROFILES["soak"], "postgresql").acts if act.kind is Kind.FAILOVER]
    assert {act.words["fault"] for act in acts} == {failover.FENCED, failover.NOT_FENCED}
    turn = PROFILES["soak"].safety_seconds / len(acts)
    assert all(later.at_seconds - act.at_seconds > turn / 4 for act, later in pairwise(acts))


def test_temporal_is_lost_once_among_disasters_and_several_times_in_a_soak() -> None:
    lost = {
        name: sum(act.kind is Kind.TEMPORAL_LOST for act in expand(5, PROFILES[name], "sqlite").acts)
        for name in PROFILES
    }
    assert lost["disasters"] == 1
    assert lost["soak"] >= 2


@pytest.mark.parametrize("database", DATABASES)
def test_a_restored_database_and_a_lost_temporal_never_meet(database: str) -> None:
    for name in ("disasters", "soak"):
        plan = expand(5, PROFILES[name], database)
        restores = [act for act in plan.acts if act.kind is Kind.RESTORE]
        losses = [act.at_seconds for act in plan.acts if act.kind is Kind.TEMPORAL_LOST]
        assert len(restores) == plan.profile.restores
        for act in restores:
            until = act.at_seconds + float(act.words["seconds"])
            assert not any(act.at_seconds <= at <= until for at in losses)


def test_a_soak_is_as_long_as_its_database_needs_and_is_repeated_by_its_name_alone() -> None:
    soak = PROFILES["soak"]
    lengths = {name: soak.on(name).sized(None, None) for name in ("sqlite", "postgresql")}
    assert lengths["postgresql"].safety_seconds > lengths["sqlite"].safety_seconds == soak.safety_seconds
    assert {it.as_asked for it in lengths.values()} == {"--profile soak"}
    assert all(it.least_kills == soak.least_kills for it in lengths.values())
    assert soak.sized(3_000, 20).as_asked == "--profile soak --payments 3000 --minutes 20"
