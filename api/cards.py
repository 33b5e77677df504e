"""The card number guard: finds digits that could be a card number, wherever a request could carry them.

Card numbers never belong here: merchants send a provider's token. A card number is a row of digits, whatever letters touch
it, or stands in the groups that people write it in. Rows of digits inside a digest or an IBAN are pieces of those. Ranges are
those of the ISO/IEC 7812 issuers in use; with the Luhn check alone one 16-digit reference in ten would be refused by chance.
"""

import re

SHORTEST, LONGEST = 13, 19

_WORDS_OF_DIGITS = re.compile(
    r"(?<![A-Za-z\d])\d{1,19}(?![A-Za-z\d])(?:[\s\u2010-\u2015-]{1,3}\d{1,19}(?![A-Za-z\d]))*"
)
"""Groups of digits, a space or dash between two (" - " too); a group that touches a Latin letter is part of a word."""
_SEPARATOR = re.compile(r"\D+")
_IN_A_ROW = re.compile(r"(?<!\d)\d{13,19}(?!\d)", re.ASCII)
_DIGEST = re.compile(r"(?<![0-9A-Za-z])[0-9a-fA-F]{32,128}(?![0-9A-Za-z])")
"""MD5 to SHA-512 in hexadecimal, and a UUID without its dashes."""
_IBAN = re.compile(r"(?<![0-9A-Za-z])[A-Z]{2}[0-9]{2}[0-9A-Z]{11,30}(?![0-9A-Za-z])")

_GROUPINGS: frozenset[tuple[int, ...]] = frozenset(
    {
        (4, 4, 4, 1),
        (4, 4, 4, 2),
        (4, 4, 4, 3),
        (4, 4, 4, 4),
        (4, 4, 4, 4, 1),
        (4, 4, 4, 4, 2),
        (4, 4, 4, 4, 3),
        (4, 3, 3, 3),  # Visa of 13 digits
        (4, 4, 5),  # Maestro of 13 digits
        (4, 6, 4),  # Diners Club
        (4, 6, 5),  # American Express, Maestro of 15 digits
        (6, 13),  # UnionPay of 19 digits
        (8, 8),
    }
)
"""How card numbers are printed and typed. A UUID (8-4-4-4-12) has none of these in it, nor has a date beside a number."""
_LENGTHS_OF_GROUPINGS = sorted({len(grouping) for grouping in _GROUPINGS})

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
    """True when 13 to 19 digits of `text`, in a row or grouped, could be a card number."""
    if any(_has_card(_SEPARATOR.split(found.group())) for found in _WORDS_OF_DIGITS.finditer(text)):
        return True
    rest = _IBAN.sub(lambda found: "" if _is_iban(found.group()) else found.group(), _DIGEST.sub("", text))
    return any(_is_card(row) for row in _IN_A_ROW.findall(rest))


def _is_iban(text: str) -> bool:
    """ISO 13616: the check digits, by ISO 7064 mod 97-10."""
    return int("".join(str(int(sign, 36)) for sign in text[4:] + text[:4])) % 97 == 1


def _has_card(groups: list[str]) -> bool:
    """Every group and every row of groups is tried, so a number with another beside it does not hide."""
    lengths = tuple(map(len, groups))
    for first, group in enumerate(groups):
        if SHORTEST <= len(group) <= LONGEST and _is_card(group):
            return True
        for count in _LENGTHS_OF_GROUPINGS:
            is_grouped = lengths[first : first + count] in _GROUPINGS
            if is_grouped and _is_card("".join(groups[first : first + count])):
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
