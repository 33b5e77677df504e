"""The providers this installation can reach, by name. Filled by the composition root only."""

from collections.abc import Iterable

from corridor.domain.effect import Operation
from corridor.domain.failure import Refusal, Refused
from corridor.providers.port import PaymentProvider


class Registry:
    """Looks providers up by the name in their capabilities."""

    def __init__(self, providers: Iterable[PaymentProvider]) -> None:
        self._by_name = {provider.capabilities.provider: provider for provider in providers}

    def __getitem__(self, name: str) -> PaymentProvider:
        """Raises `Refused(NO_ROUTE)` for a provider this installation does not know."""
        try:
            return self._by_name[name]
        except KeyError:
            raise Refused(Refusal.NO_ROUTE, f"provider {name!r} is not configured here") from None

    def able(self, operation: Operation, currency: str) -> tuple[PaymentProvider, ...]:
        """Those that take the operation in the currency, by name."""
        providers = (self._by_name[name] for name in self.names)
        return tuple(
            provider
            for provider in providers
            if operation in provider.capabilities.operations and currency in provider.capabilities.currencies
        )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._by_name))
