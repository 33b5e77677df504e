"""How money and time are written in every JSON a merchant reads: one form, exponent always sent."""

from datetime import UTC, datetime
from typing import Any

from corridor.domain.currency import exponent
from corridor.domain.money import Money

Json = dict[str, Any]


def money_view(money: Money) -> Json:
    """`{"minor": 12345, "currency": "EUR", "exponent": 2}`; the exponent is what catches a ×100 error."""
    return {"minor": money.minor, "currency": money.currency, "exponent": exponent(money.currency)}


def time_view(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with `Z` and milliseconds."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def former(old: Json, new: Json) -> Json:
    """The fields that changed between two views of an object, with their former values; what always changes is left
    out. An event carries it beside the new view."""
    return {
        name: old[name]
        for name in old
        if old[name] != new[name] and name not in ("last_sequence", "updated_at")
    }
