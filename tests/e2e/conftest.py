"""An installation of the whole stack for each test, on free ports."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from corridor.fx.ecb import EcbRates
from corridor.runtime.settings import Settings
from tests.e2e.installation import Installation


@pytest.fixture
def installation(sandbox_settings: Settings, tmp_path: Path) -> Iterator[Installation]:
    settings = sandbox_settings.model_copy(
        update={"market_day": EcbRates().newest_day(), "settlement_interval_seconds": 3}
    )
    here = Installation(settings, tmp_path)
    yield here
    here.down()
