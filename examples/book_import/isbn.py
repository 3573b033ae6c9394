"""ISBNs: ten or thirteen digits, the last one of which proves the others."""

from __future__ import annotations

import re
from typing import Final

_TEN: Final = re.compile(r"[0-9]{9}[0-9X]", re.ASCII)
_THIRTEEN: Final = re.compile(r"97[89][0-9]{10}", re.ASCII)
_MAX_CHARACTERS: Final = 20


class InvalidIsbn(ValueError):
    """A text is no ISBN."""


def normal_isbn(given: str) -> str:
    """The thirteen digits of an ISBN, given with ten or thirteen, with hyphens or blanks or without.

    Raises `InvalidIsbn`.
    """
    if len(given) > _MAX_CHARACTERS:
        raise InvalidIsbn(f"expected an ISBN of 10 or 13 digits; got {len(given)} characters")
    digits = given.replace("-", "").replace(" ", "").upper()
    if _TEN.fullmatch(digits):
        if _sum_of_ten(digits) % 11:
            raise InvalidIsbn(f"the check digit of ISBN {given!r} is wrong")
        body = f"978{digits[:9]}"
        return body + check_digit(body)
    if _THIRTEEN.fullmatch(digits):
        if check_digit(digits[:12]) != digits[12]:
            raise InvalidIsbn(f"the check digit of ISBN {given!r} is wrong")
        return digits
    raise InvalidIsbn(f"expected an ISBN of 10 digits, or of 13 that begin with 978 or 979; got {given!r}")


def check_digit(twelve: str) -> str:
    """The thirteenth digit."""
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(twelve))
    return str(-total % 10)


def _sum_of_ten(digits: str) -> int:
    return sum((10 - place) * (10 if digit == "X" else int(digit)) for place, digit in enumerate(digits))
