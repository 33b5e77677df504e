"""The payment's story, told by real workflows against a real database and the sandbox's own books."""

import pytest

from corridor.ledger import proof
from tests.workflows.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_sale_is_captured_settled_and_its_books_balance(here: World) -> None:
    payment = await here.pay()
    assert payment.status == "captured", payment
    await here.settle()
    payment = await here.until(payment.id, "settled")
    assert ("capture", 10_000) in await here.moved(payment.id)
    assert payment.settled_minor > 0
    report = await here.database.read(proof.verify)
    assert report.holds, report
