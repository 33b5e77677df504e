"""What every activity of ours is handed by the composition root: databases, adapters, the market, the clock."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from corridor.fx.desk import Desk
from corridor.providers.registry import Registry
from corridor.risk.policy import Policies
from corridor.storage.database import Database


@dataclass(frozen=True)
class Deadlines:
    """How long what a provider did may stay as it is."""

    settle_within: timedelta
    authorization_life: timedelta
    """The longest an authorisation of this provider is held; for answers that do not name its end."""


@dataclass(frozen=True)
class Edge:
    """The outside of the core. `now` is the one clock; activities read it once and pass the moment on."""

    database: Database
    providers: Registry
    desk: Desk
    policies: Policies
    now: Callable[[], datetime]
    lock_seconds: int = 1800
    """How long a payment without a quote of its own locks its rate."""
    settle_within: timedelta = timedelta(days=7)
    """When a captured payment that the provider has not settled is shown to operators."""

    def deadlines(self, provider: str) -> Deadlines:
        life = self.providers[provider].capabilities.authorization_life_seconds
        return Deadlines(self.settle_within, timedelta(seconds=life))
