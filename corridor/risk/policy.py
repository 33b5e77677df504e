"""Risk policies: rules as dated data. A file per effective date; the newest one that has begun is in force."""

import hashlib
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from corridor.domain.currency import is_currency
from corridor.domain.money import Money
from corridor.domain.outcome import Frozen

EURO = "EUR"
_EUROS = re.compile(r"\d{1,12}\.\d{2}")
_RATE = re.compile(r"\d{1,9}(\.\d{1,12})?")


class PolicyBroken(Exception):
    """A policy file is not valid, or none is in force: risk fails closed, nothing is decided without rules."""


def _euros(value: object) -> Money:
    """`"5000.00"` → Money. Text only: a TOML float has already been rounded once."""
    if not isinstance(value, str) or not _EUROS.fullmatch(value):
        raise ValueError(f"{value!r} is not a text of euros and cents like '5000.00'")
    return Money(int(value.replace(".", "")), EURO)


def _country(code: str) -> str:
    if not (len(code) == 2 and code.isascii() and code.isalpha() and code.isupper()):
        raise ValueError(f"{code!r} is not an ISO 3166 alpha-2 code")
    return code


def _pattern(text: str) -> str:
    if len(_parts(text)) != 4:
        raise ValueError(f"{text!r} is not a corridor pattern like '*-EUR>CN-CNY'")
    return text


def _rate(value: object) -> Decimal:
    if not isinstance(value, str) or not _RATE.fullmatch(value) or Decimal(value) == 0:
        raise ValueError(f"{value!r} is not a rate in decimal text")
    return Decimal(value)


Euros = Annotated[Money, BeforeValidator(_euros)]
Country = Annotated[str, AfterValidator(_country)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Rate = Annotated[Decimal, BeforeValidator(_rate)]


class Scope(StrEnum):
    """Whose payments a velocity rule counts."""

    INSTRUMENT = "instrument"
    PAYER = "payer"
    MERCHANT = "merchant"


class AmountRule(Frozen):
    """Limits of one payment: below the minimum or above the maximum is declined, above `review_above` waits."""

    minimum: Euros = Field(alias="minimum_eur")
    review_above: Euros = Field(alias="review_above_eur")
    maximum: Euros = Field(alias="maximum_eur")
    assumed_per_euro: dict[str, Rate] = Field(default_factory=dict)
    """Planning rates of currencies without a reference rate; for limits only."""

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if not self.minimum <= self.review_above or not self.review_above <= self.maximum:
            raise ValueError("minimum_eur <= review_above_eur <= maximum_eur")
        if unknown := [code for code in self.assumed_per_euro if not is_currency(code)]:
            raise ValueError(f"no ISO 4217 currencies: {unknown}")
        return self


class VelocityRule(Frozen):
    """Limits on the payments of one scope in a sliding window that ends with the payment being judged."""

    id: str
    scope: Scope
    window_seconds: int = Field(ge=1, le=30 * 86_400)
    review_above_count: int | None = Field(None, ge=1)
    decline_above_count: int | None = Field(None, ge=1)
    review_above: Euros | None = Field(None, alias="review_above_eur")
    decline_above: Euros | None = Field(None, alias="decline_above_eur")

    @property
    def limits_amount(self) -> bool:
        return self.review_above is not None or self.decline_above is not None

    @property
    def highest_count(self) -> int:
        """Counting further than one past this changes no decision."""
        return max(self.review_above_count or 0, self.decline_above_count or 0)

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if not self.highest_count and not self.limits_amount:
            raise ValueError(f"velocity rule {self.id} limits nothing")
        review, decline = self.review_above_count, self.decline_above_count
        if review is not None and decline is not None and review > decline:
            raise ValueError(f"velocity rule {self.id}: review comes before decline")
        if self.review_above and self.decline_above and self.decline_above < self.review_above:
            raise ValueError(f"velocity rule {self.id}: review comes before decline")
        return self


class CountryRule(Frozen):
    """Countries of buyer or merchant that are never served, and those a person looks at."""

    blocked: tuple[Country, ...]
    review: tuple[Country, ...]


class CorridorRule(Frozen):
    """Patterns of served corridors; a corridor that matches none of `enabled` is closed."""

    enabled: tuple[Pattern, ...]
    disabled: tuple[Pattern, ...] = ()

    def is_open(self, corridor: str) -> bool:
        """`corridor` is written `DE-EUR>CN-CNY`."""
        return _any_matches(self.enabled, corridor) and not _any_matches(self.disabled, corridor)


class Rules(Frozen):
    """The content of one file."""

    effective_from: date
    note: str
    amount: AmountRule
    velocity: tuple[VelocityRule, ...]
    countries: CountryRule
    corridors: CorridorRule

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        if len({rule.id for rule in self.velocity}) != len(self.velocity):
            raise ValueError("velocity rules have ids of their own")
        return self


@dataclass(frozen=True)
class Policy:
    """Rules and the version that decisions are recorded under: `2026-11-01+<digest of the file>`."""

    rules: Rules
    version: str


@dataclass(frozen=True)
class Policies:
    """Every known policy, oldest first."""

    ordered: tuple[Policy, ...]

    def in_force(self, now: datetime) -> Policy:
        """The newest policy that began on or before `now` (UTC days). Raises `PolicyBroken` before the first."""
        today = now.astimezone(UTC).date()
        begun = [policy for policy in self.ordered if policy.rules.effective_from <= today]
        if not begun:
            raise PolicyBroken(f"no risk policy is in force on {today}")
        return begun[-1]


@cache
def shipped() -> Policies:
    """The policies inside this package, read once per process."""
    return load(resources.files("corridor.risk") / "policies")


def load(directory: Traversable) -> Policies:
    """Read every `YYYY-MM-DD.toml` of `directory`. Raises `PolicyBroken` for one bad file: half a policy is none."""
    files = sorted(
        (file for file in directory.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name
    )
    if not files:
        raise PolicyBroken(f"no risk policy in {directory}")
    return Policies(tuple(read(file.name, file.read_bytes()) for file in files))


def read(name: str, content: bytes) -> Policy:
    """Parse and check one file; its name must be its effective date."""
    try:
        rules = Rules.model_validate(tomllib.loads(content.decode("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise PolicyBroken(f"{name}: {error}") from error
    if name != f"{rules.effective_from}.toml":
        raise PolicyBroken(f"{name} says it is effective from {rules.effective_from}")
    return Policy(rules, f"{rules.effective_from}+{hashlib.sha256(content).hexdigest()[:12]}")


def _any_matches(patterns: Sequence[str], corridor: str) -> bool:
    actual = _parts(corridor)
    return any(
        all(wanted in ("*", found) for wanted, found in zip(_parts(pattern), actual, strict=True))
        for pattern in patterns
    )


def _parts(corridor: str) -> list[str]:
    """`DE-EUR>CN-CNY` → country, currency, country, currency."""
    return [part for side in corridor.split(">") for part in side.split("-")]
