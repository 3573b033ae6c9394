"""ISBNs of ten and of thirteen digits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.examples.book_import.isbn import InvalidIsbn, check_digit, normal_isbn


@pytest.mark.parametrize(
    ("text", "isbn"),
    [
        ("9780441013593", "9780441013593"),
        ("978-0-441-01359-3", "9780441013593"),
        ("0441013597", "9780441013593"),
        ("0-8044-2957-X", "9780804429573"),
        ("080442957x", "9780804429573"),
        ("9791090636071", "9791090636071"),
    ],
)
def test_isbns(text: str, isbn: str) -> None:
    """With ten or thirteen digits, hyphens or none, the same thirteen digits come out."""
    assert normal_isbn(text) == isbn


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("9780441013594", "check digit"),
        ("0441013598", "check digit"),
        ("1234567890123", "978 or 979"),
        ("97804410135", "10 digits"),
        ("", "10 digits"),
        ("X441013597", "10 digits"),
        ("abcdefghij", "10 digits"),
        ("٩٧٨٠٤٤١٠١٣٥٩٣", "10 digits"),
        ("9" * 1_000, "1000 characters"),
    ],
)
def test_no_isbns(text: str, why: str) -> None:
    """What is none says why."""
    with pytest.raises(InvalidIsbn, match=why):
        normal_isbn(text)


@given(st.from_regex(r"97[89][0-9]{9}", fullmatch=True), st.integers(0, 11), st.integers(1, 9))
def test_one_wrong_digit(twelve: str, place: int, by: int) -> None:
    """Any one wrong digit is noticed."""
    isbn = twelve + check_digit(twelve)
    assert normal_isbn(isbn) == isbn
    wrong = f"{isbn[:place]}{(int(isbn[place]) + by) % 10}{isbn[place + 1 :]}"
    with pytest.raises(InvalidIsbn):
        normal_isbn(wrong)
