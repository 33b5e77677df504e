"""Money and currencies in requests and answers: integers of minor units, never a float."""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from corridor.domain import currency as iso
from corridor.domain.money import MINOR_LIMIT, Money


class Input(BaseModel):
    """Base of all request bodies: no unknown fields, no conversions between types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class View(BaseModel):
    """Base of all answers; clients must tolerate further fields."""

    model_config = ConfigDict(extra="forbid")


def _listed(code: str) -> str:
    if not iso.is_currency(code):
        raise PydanticCustomError("invalid_currency", "not an ISO 4217 currency code in upper case")
    return code


def _in_range(minor: int) -> int:
    if not 0 < minor < MINOR_LIMIT:
        raise PydanticCustomError("amount_out_of_range", "an amount is positive and below 10^15 minor units")
    return minor


Currency = Annotated[str, Field(min_length=3, max_length=3, examples=["EUR"]), AfterValidator(_listed)]
Minor = Annotated[
    int,
    Field(
        description="minor units of the currency",
        json_schema_extra={"minimum": 1, "maximum": MINOR_LIMIT - 1},
    ),
    AfterValidator(_in_range),
]


class MoneyInput(Input):
    """A positive amount. Send `exponent` too: it catches the error of a factor of 100."""

    minor: Minor
    currency: Currency
    exponent: int | None = Field(
        None, ge=0, le=4, description="if sent, it must be the currency's of ISO 4217"
    )

    @model_validator(mode="after")
    def _exponent_fits(self) -> Self:
        if self.exponent is not None and self.exponent != iso.exponent(self.currency):
            raise PydanticCustomError(
                "currency_exponent_mismatch",
                "{currency} has {exponent} decimals",
                {"currency": self.currency, "exponent": iso.exponent(self.currency)},
            )
        return self

    def money(self) -> Money:
        return Money(self.minor, self.currency)


class MoneyView(View):
    minor: int
    currency: str
    exponent: int
