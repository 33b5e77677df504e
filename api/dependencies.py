"""What the API stands on, handed in by whoever starts it: `create_app(ApiDependencies(...))`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Annotated, Protocol

from fastapi import Depends, Request

from api.gateway import Gateway
from api.outages import Outages
from corridor.domain.accepted import NewPayment
from corridor.domain.money import Money
from corridor.domain.quote import Quote
from corridor.providers.registry import Registry
from corridor.runtime.settings import Settings
from corridor.storage.database import Database
from corridor.storage.sealing import Sealer


class QuoteService(Protocol):
    """Makes quotes; keeping them is the API's transaction."""

    async def quote(
        self, merchant_id: str, sell: Money, buy_currency: str, lock_seconds: int, now: datetime
    ) -> Quote:
        """Ask the liquidity providers. Raises `Refused` (RATE_UNAVAILABLE, AMOUNT_OUT_OF_RANGE)."""
        ...


class Admission(Protocol):
    """Limits that are refused at the door instead of declined later: what no review could allow."""

    def check(self, new: NewPayment, now: datetime) -> None:
        """Raises `Refused` (LIMIT_EXCEEDED, CORRIDOR_NOT_ENABLED) with the pointer of the field."""
        ...


@dataclass(frozen=True)
class ApiDependencies:
    """`clock` gives UTC; nothing behind the edge reads another one."""

    database: Database
    gateway: Gateway
    settings: Settings
    quotes: QuoteService
    admission: Admission
    registry: Registry
    sealer: Sealer
    clock: Callable[[], datetime]
    stream_poll_seconds: float = 0.25
    stream_life: timedelta = timedelta(minutes=15)

    @cached_property
    def outages(self) -> Outages:
        """Which providers are down, shared by all requests of this process."""
        return Outages(self.database, self.clock)

    @property
    def mode(self) -> str:
        """The mode of keys that are good here."""
        return "live" if self.settings.mode == "live" else "test"


def of_app(request: Request) -> ApiDependencies:
    dependencies: ApiDependencies = request.app.state.dependencies
    return dependencies


Deps = Annotated[ApiDependencies, Depends(of_app)]
