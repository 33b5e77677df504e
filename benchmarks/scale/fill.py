"""Fill a database with payments: real ones, cast again and again with ids, merchants, keys and times of their own.

Half of all payments belong to one merchant. They follow one another at a steady pace up to now, whatever their
number, so what is under way (waiting for settlement, for a person, for the relay) is the same in every database; what
grows is history. Postings and feed positions are numbered in the order of their time, as they would have been.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from api import credentials
from benchmarks.scale import sinks
from benchmarks.scale.casting import Casting, Merchant
from benchmarks.scale.moulds import Mould
from corridor.domain.ids import Prefix, new_id
from corridor.runtime.settings import Settings
from corridor.storage import merchants, webhook_endpoints
from corridor.storage.database import Database
from corridor.storage.deadlines import UNHURRIED
from corridor.storage.merchants import NewMerchant
from corridor.storage.migrate import upgrade_async
from corridor.storage.sealing import Sealer

PACE = timedelta(seconds=30)
MERCHANTS = 200
HOT_SHARE = 0.5
SMALL = 60
"""Payments of the small merchant in every database, evenly over all of history."""
KINDS = {"settled": 850, "failed": 90, "refunded": 60}
"""Of a thousand payments; one that could not have ended yet is still captured."""
WAITING = {"authorized": 20, "review": 25, "unknown": 10, "unstarted": 10}
"""In every database, among its newest payments."""
WAITED = ("authorized", "review", "unknown")
NEWEST = 600
SEED = 20_261_122


@dataclass(frozen=True)
class Filled:
    """What was filled, and whose keys open it."""

    url: str
    payments: int
    rows: int
    hot: Merchant
    small: Merchant
    keys: Mapping[str, str]
    """`hot`, `small` and `operator`."""


async def fill(
    url: str, size: int, made: Mapping[str, list[Mould]], settings: Settings, sealer: Sealer, now: datetime
) -> Filled:
    """Migrate the database at `url` and put `size` payments into it, the last accepted a moment before `now`."""
    await upgrade_async(url)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    database = Database(url, deadlines=UNHURRIED)
    people, keys = await database.write(_people, size, settings, sealer, now - size * PACE)
    await database.close()
    async with sinks.opened(url) as sink:
        casting = Casting(sink, sealer, now)
        for accepted, mould, merchant in _sequence(size, made, people, now):
            await casting.cast(mould, merchant, accepted)
        await casting.finish()
    return Filled(url, size, casting.written, people[0], people[-1], keys)


def _people(
    connection: Connection, size: int, settings: Settings, sealer: Sealer, opened_at: datetime
) -> tuple[list[Merchant], dict[str, str]]:
    people = []
    for number in range(min(MERCHANTS, max(3, size // 4))):
        one = Merchant(new_id(Prefix.MERCHANT, opened_at), new_id(Prefix.WEBHOOK_ENDPOINT, opened_at))
        new = NewMerchant(id=one.id, name=f"Shop {number}", country="CN", settle_currency="CNY")
        merchants.create_merchant(connection, new, opened_at)
        webhook_endpoints.create(
            connection, endpoint_id=one.endpoint, merchant_id=one.id, url=f"https://shop-{number}.example/hook",
            event_types=[], secret_sealed=sealer.seal(b"secret", webhook_endpoints.place(one.endpoint)),
            now=opened_at,
        )  # fmt: skip
        people.append(one)
    owners: dict[str, tuple[str | None, merchants.Role]] = {
        "hot": (people[0].id, "merchant"), "small": (people[-1].id, "merchant"), "operator": (None, "operator"),
    }  # fmt: skip
    pepper = settings.api_key_pepper
    return people, {
        name: credentials.issue(
            connection, merchant_id=owner, role=role, mode="test", pepper=pepper, now=opened_at
        )
        for name, (owner, role) in owners.items()
    }


def _sequence(
    size: int, made: Mapping[str, list[Mould]], people: list[Merchant], now: datetime
) -> Iterator[tuple[datetime, Mould, Merchant]]:
    """Who pays what when, from the oldest to the newest."""
    chance = random.Random(SEED)  # noqa: S311 — the same database every time
    newest = range(max(0, size - NEWEST), size - WAITING["unstarted"])
    wanted = [kind for kind in WAITED for _ in range(min(WAITING[kind], len(newest) // 4))]
    waiting = dict(zip(chance.sample(newest, len(wanted)), wanted, strict=True))
    kinds, weights = list(KINDS), list(KINDS.values())
    for number in range(size):
        accepted = now - (size - number) * PACE + timedelta(milliseconds=chance.randrange(20_000))
        kind = waiting.get(number) or chance.choices(kinds, weights)[0]
        if number >= size - WAITING["unstarted"]:
            kind = "unstarted"
        mould = chance.choice(made[kind])
        if accepted + mould.lasts > now:
            mould = chance.choice(made["captured" if kind != "unstarted" else kind])
        yield accepted, mould, _payee(number, size, people, chance)


def _payee(number: int, size: int, people: list[Merchant], chance: random.Random) -> Merchant:
    if number % max(1, size // SMALL) == 1:
        return people[-1]
    return people[0] if chance.random() < HOT_SHARE else chance.choice(people[1:-1])
