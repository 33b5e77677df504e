"""The card number guard: finds digits that could be a card number, wherever a request could carry them.

Card numbers never belong here: merchants send a provider's token. Ranges are those of the ISO/IEC 7812 issuers in
use; with the Luhn check alone one 16-digit reference in ten would be refused by chance.
"""

import re

_RUN = re.compile(r"\d(?:[\s\u2010-\u2015-]?\d){12,}")
_SEPARATOR = re.compile(r"\D")
SHORTEST, LONGEST = 13, 19
MOST_GROUPS = 500
"""A run of more groups is no reference anybody writes; refusing it bounds the work per request."""

_RANGES: tuple[tuple[int, int, frozenset[int]], ...] = (
    (4, 4, frozenset({13, 16, 19})),  # Visa
    (51, 55, frozenset({16})),  # Mastercard
    (2221, 2720, frozenset({16})),  # Mastercard
    (34, 34, frozenset({15})),  # American Express
    (37, 37, frozenset({15})),  # American Express
    (300, 305, frozenset(range(14, 20))),  # Diners Club
    (3095, 3095, frozenset(range(14, 20))),  # Diners Club
    (36, 36, frozenset(range(14, 20))),  # Diners Club
    (38, 39, frozenset(range(14, 20))),  # Diners Club
    (3528, 3589, frozenset(range(16, 20))),  # JCB
    (2200, 2204, frozenset(range(16, 20))),  # Mir
    (50, 50, frozenset(range(13, 20))),  # Maestro
    (56, 69, frozenset(range(13, 20))),  # Maestro, Discover (60, 64, 65), UnionPay (62)
    (81, 81, frozenset(range(16, 20))),  # UnionPay
)


def contains_card_number(text: str) -> bool:
    """True when some 13 to 19 digits of `text`, spaces and dashes aside, could be a card number."""
    return any(_run_has_card(found.group()) for found in _RUN.finditer(text))


def _run_has_card(run: str) -> bool:
    """Every stretch of whole digit groups is tried, so a number with a prefix beside it does not hide."""
    groups = [group for group in _SEPARATOR.split(run) if group]
    if len(groups) > MOST_GROUPS:
        return True
    for first in range(len(groups)):
        digits = ""
        for group in groups[first:]:
            digits += group
            if len(digits) > LONGEST:
                break
            if len(digits) >= SHORTEST and _is_card(digits):
                return True
    return False


def _is_card(digits: str) -> bool:
    return _in_a_range(digits) and _passes_luhn(digits)


def _in_a_range(digits: str) -> bool:
    return any(
        low <= int(digits[: len(str(low))]) <= high and len(digits) in lengths
        for low, high, lengths in _RANGES
    )


def _passes_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    values = [int(digit) for digit in digits]
    doubled = (sum(divmod(2 * value, 10)) for value in values[-2::-2])
    return (sum(values[-1::-2]) + sum(doubled)) % 10 == 0
