"""A key whose request gave up waiting is free for its retry, by whichever clock the retry is answered."""

from datetime import timedelta

from corridor.domain.ids import Prefix, new_id
from corridor.storage import idempotency
from corridor.storage.database import Database
from corridor.storage.idempotency import Claim
from tests.unit.relay_rows import NOW, merchant


async def test_a_lease_given_back_by_a_clock_that_is_ahead_is_over_for_the_others(database: Database) -> None:
    payment_id, ahead = new_id(Prefix.PAYMENT, NOW), NOW + timedelta(hours=1)
    words = (await database.write(merchant), "order-7781", "f" * 64, payment_id)
    await database.write(idempotency.claim, *words, ahead)
    await database.write(idempotency.release, payment_id)
    assert await database.write(idempotency.claim, *words, NOW) == Claim(payment_id, resumed=True)
