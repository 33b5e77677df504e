"""Outages of providers: noticed by the watch and by the breaker, and over as soon as the provider answers."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from activities.breaker import EFFECTS_IN_A_ROW, Breaker
from corridor.domain.outcome import Evidence, Outcome, ProviderAnswer
from corridor.providers.port import LookUpFailed
from corridor.storage import outages
from corridor.storage.database import Database
from corridor.storage.outages import CONTRADICTED_FOR, Cause
from tests.unit.relay_rows import NOW
from workers.relay.providers import FAILURES, KEEP_OUT, ProviderWatch


class Mute:
    """A registry of one provider that answers pings, or does not."""

    names = ("stripe",)

    def __init__(self) -> None:
        self.answers = True

    def __getitem__(self, name: str) -> "Mute":
        return self

    async def ping(self) -> None:
        if not self.answers:
            raise LookUpFailed("GET /v1/balance: ConnectError")


async def down(database: Database, now: datetime = NOW) -> Mapping[str, datetime]:
    return await database.read(outages.standing, now)


def watch(database: Database, provider: Any) -> ProviderWatch:
    return ProviderWatch(database, provider, lambda: NOW)


async def test_one_lost_ping_is_no_outage_and_several_are(database: Database) -> None:
    provider = Mute()
    watching = watch(database, provider)
    provider.answers = False
    for turn in range(1, FAILURES + 1):
        await watching.turn()
        assert bool(await down(database)) == (turn == FAILURES)
    assert await down(database) == {"stripe": NOW + KEEP_OUT}


async def test_the_first_answer_ends_the_outage(database: Database) -> None:
    provider = Mute()
    watching = watch(database, provider)
    provider.answers = False
    for _ in range(FAILURES + 2):
        await watching.turn()
    provider.answers = True
    await watching.turn()
    assert await down(database) == {}


async def test_a_worker_that_is_cut_off_itself_closes_the_door_for_a_moment_only(database: Database) -> None:
    """One of two has lost its way out; the other goes on having answers."""
    cut_off, clock = Mute(), [NOW]
    cut_off.answers = False
    alone = ProviderWatch(database, cut_off, lambda: clock[0])  # type: ignore[arg-type]
    well = ProviderWatch(database, Mute(), lambda: clock[0])  # type: ignore[arg-type]
    closed = 0
    for _ in range(30):
        await alone.turn()
        closed += bool(await down(database, clock[0]))
        await well.turn()
        assert await down(database, clock[0]) == {}
        clock[0] += timedelta(seconds=1)
    assert 0 < closed <= 3
    alone_now = ProviderWatch(database, cut_off, lambda: clock[0])  # type: ignore[arg-type]
    clock[0] += CONTRADICTED_FOR
    for _ in range(FAILURES):
        await alone_now.turn()
    assert await down(database, clock[0]), "with nobody who has answers it is an outage"


async def test_an_outage_that_all_workers_notice_at_once_is_noted_by_each(database: Database) -> None:
    until = NOW + KEEP_OUT
    noting = (database.write(outages.note, "stripe", Cause.UNREACHABLE, "gone", NOW, until) for _ in range(8))
    await asyncio.gather(*noting)
    assert await down(database) == {"stripe": until}


async def test_an_outage_nobody_watches_any_more_runs_out(database: Database) -> None:
    await database.write(outages.note, "stripe", Cause.UNREACHABLE, "gone", NOW, NOW + KEEP_OUT)
    assert await down(database, NOW + KEEP_OUT - timedelta(seconds=1))
    assert not await down(database, NOW + KEEP_OUT)


async def test_an_outage_that_a_clock_a_day_ahead_wrote_keeps_nobody_out(database: Database) -> None:
    tomorrow = NOW + timedelta(days=1)
    await database.write(outages.note, "stripe", Cause.FAILING, "gone", tomorrow, tomorrow + KEEP_OUT)
    assert await down(database) == {}


async def test_noted_again_an_outage_is_prolonged(database: Database) -> None:
    for seconds in (5, 10):
        until = NOW + timedelta(seconds=seconds)
        await database.write(outages.note, "stripe", Cause.UNREACHABLE, "gone", NOW, until)
    assert await down(database) == {"stripe": NOW + timedelta(seconds=10)}


# --- the breaker: what sends came to -----------------------------------------------------------------------------


def answer(outcome: Outcome, status: int | None = None) -> ProviderAnswer:
    return ProviderAnswer(outcome=outcome, evidence=Evidence(seen_at=NOW, http_status=status))


async def test_different_effects_without_an_answer_in_a_row_are_an_outage(database: Database) -> None:
    breaker = Breaker(database)
    for number in range(EFFECTS_IN_A_ROW):
        assert not await down(database)
        await breaker.note("stripe", f"pay_{number}:sale:1", answer(Outcome.UNKNOWN, 503), NOW)
    assert set(await down(database)) == {"stripe"}


async def test_one_effect_that_fails_again_and_again_is_no_outage(database: Database) -> None:
    breaker = Breaker(database)
    for _ in range(EFFECTS_IN_A_ROW * 3):
        await breaker.note("stripe", "pay_1:sale:1", answer(Outcome.NOT_SENT), NOW)
    assert not await down(database)


async def test_declines_and_requests_to_slow_down_are_answers(database: Database) -> None:
    breaker = Breaker(database)
    for number in range(EFFECTS_IN_A_ROW):
        await breaker.note("stripe", f"pay_a{number}:sale:1", answer(Outcome.DECLINED, 402), NOW)
        await breaker.note("stripe", f"pay_b{number}:sale:1", answer(Outcome.UNKNOWN, 429), NOW)
    assert not await down(database)


async def test_an_answer_ends_what_the_breaker_noticed_and_not_what_the_watch_did(database: Database) -> None:
    breaker = Breaker(database)
    for number in range(EFFECTS_IN_A_ROW):
        await breaker.note("stripe", f"pay_{number}:sale:1", answer(Outcome.UNKNOWN), NOW)
    await database.write(outages.note, "stripe", Cause.UNREACHABLE, "gone", NOW, NOW + timedelta(seconds=3))
    await breaker.note("stripe", "pay_9:sale:1", answer(Outcome.APPROVED, 200), NOW)
    assert await down(database) == {"stripe": NOW + timedelta(seconds=3)}
