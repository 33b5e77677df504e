"""Half of the signed lies are told of payments under way, as somebody would tell them who knew the provider's books."""

import asyncio
from unittest.mock import AsyncMock, MagicMock, Mock

from sqlalchemy import Connection

from corridor.domain.effect import EffectState
from corridor.domain.payment import Status
from corridor.providers.stripe.webhooks import reduce_event
from corridor.storage import payments
from corridor.storage.database import Database
from corridor.storage.tables import effects
from tests.chaos.faults import webhooks
from tests.chaos.faults.performer import Performer
from tests.chaos.faults.webhooks import SIGNED_LIES, Victim
from tests.chaos.journal import Journal
from tests.chaos.shopping import Street
from tests.chaos.watch import Watch
from tests.unit import relay_rows as rows


def _known(connection: Connection, state: EffectState) -> str:
    """A payment whose buyer is asked to authenticate; the provider has a name for it."""
    row = rows.payment(connection, rows.merchant(connection))
    key = rows.effect(connection, row, state)
    connection.execute(
        effects.update().where(effects.c.key == key).values(provider_reference=f"pi_of_{row.id}")
    )
    locked = payments.lock(connection, row.id)
    payments.move(connection, locked, "payment.requires_action", rows.NOW, to=Status.REQUIRES_ACTION)
    return row.id


def _unknown_and_ended(connection: Connection) -> None:
    merchant_id = rows.merchant(connection)
    rows.effect(connection, rows.payment(connection, merchant_id), EffectState.DECLARED)
    taken = rows.payment(connection, merchant_id)
    key = rows.effect(connection, taken, EffectState.APPROVED)
    connection.execute(effects.update().where(effects.c.key == key).values(provider_reference="pi_taken"))
    rows.captured(connection, taken)


async def test_the_victim_is_open_and_known_to_the_provider(sqlite_database: str) -> None:
    database = Database(sqlite_database)
    await database.write(_unknown_and_ended)
    assert await webhooks.under_way(database, 3) is None
    payment_id = await database.write(_known, EffectState.ACTION_REQUIRED)
    expected = Victim(payment_id, f"{payment_id}:sale:1", f"pi_of_{payment_id}", 10_000, "eur")
    assert [await webhooks.under_way(database, number) for number in range(2)] == [expected] * 2
    await database.close()


def test_the_lie_names_what_the_provider_names_and_says_the_true_amount() -> None:
    victim = Victim("pay_1", "pay_1:authorise:1", "pi_3Qtrue", 4_700, "usd")
    for name in SIGNED_LIES:
        told = webhooks.content(name, "7", victim)["data"]["object"]
        assert (told["id"], told["currency"]) == ("pi_3Qtrue", "usd"), name
        assert told["amount"] == (1 if name == "altered_amount" else 4_700)


def test_the_product_reads_it_as_an_event_of_that_payment() -> None:
    body = webhooks.body("sent_again", "7", Victim("pay_1", "pay_1:sale:1", "pi_3Qtrue", 4_700, "usd"))
    read = reduce_event(body)
    assert (read.payment_id, read.provider_reference, read.shows_money) == ("pay_1", "pi_3Qtrue", True)


async def test_nobody_looks_for_a_victim_while_the_database_is_exchanged() -> None:
    """Found by soak seed 20261138: a lie that had begun before asked the database that was closed."""
    stand = MagicMock(database=Mock(read=AsyncMock(return_value=[Victim("pay_1", "pay_1:sale:1")])))
    performer = Performer(stand, Mock(spec=Street), Mock(spec=Journal), Mock(spec=Watch))
    async with asyncio.TaskGroup() as group, performer.turns.alone():
        looked = group.create_task(performer._victim(next(iter(SIGNED_LIES)), 1))
        await asyncio.sleep(0.01)
        assert not stand.database.read.called
    assert looked.result() == Victim("pay_1", "pay_1:sale:1")
