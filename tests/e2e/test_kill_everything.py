"""The whole installation killed with -9 in the middle of its work and started again."""

import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.installation import CORRIDOR, Installation, captures, order, payments, until_answered

PAYMENTS = 24
TERMINAL = {"settled", "failed", "canceled", "expired"}


@pytest.mark.timeout(240)
def test_every_payment_in_flight_is_finished_once_after_the_whole_installation_was_killed(
    installation: Installation,
) -> None:
    installation.up()
    key = installation.merchant_key()
    with ThreadPoolExecutor(PAYMENTS) as pool:
        posting = [pool.submit(order, installation, key, number) for number in range(PAYMENTS)]
        time.sleep(1.2)  # some are answered, most are anywhere between acceptance and settlement
        installation.kill_everything()
        for future in posting:
            future.result()
    installation.up()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: until_answered(installation, key, number), range(PAYMENTS)))
    deadline = time.monotonic() + 60
    while {row["status"] for row in payments(installation, key)} - TERMINAL and time.monotonic() < deadline:
        time.sleep(1)
    rows = payments(installation, key)
    assert {row["status"] for row in rows} == {"settled"}, Counter(row["status"] for row in rows)
    assert len(rows) == PAYMENTS == len({answer["id"] for answer in answers})
    assert set(captures(installation).values()) == {1}
    assert set(captures(installation)) == {row["id"] for row in rows}
    verified = subprocess.run(  # noqa: S603
        [*CORRIDOR, "ledger", "verify"], env=installation.environment, capture_output=True, check=False
    )
    assert verified.returncode == 0, verified.stdout
