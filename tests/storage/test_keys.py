"""storage/keys.py: keys as bytes."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.storage.errors import Damaged, InvalidKey
from holdfast.storage.keys import (
    MAX_ACTOR_KEY_BYTES,
    MAX_STORAGE_KEY_BYTES,
    IndexValue,
    Key,
    KeyPart,
    decode_key,
    decode_number,
    encode_index_values,
    encode_key,
    encode_number,
    encode_prefix,
    next_prefix,
)

INTS = st.integers(-(2**64) + 1, 2**64 - 1)
# Few characters and the hostile ones, so that prefixes, zero bytes and the ends of ranges meet often.
HOSTILE_TEXT = st.text(st.sampled_from("a\x00\xff\ud7ff\uffff\U0010ffffe\u0301é/."), max_size=8)
TEXT = st.one_of(st.text(max_size=12), HOSTILE_TEXT)
BYTES = st.one_of(
    st.binary(max_size=12), st.binary(max_size=4).map(lambda raw: raw.replace(b"a", b"\x00\xff"))
)
PARTS = st.one_of(TEXT, BYTES, INTS)
KEYS = st.one_of(PARTS, st.lists(PARTS, max_size=4).map(tuple))


def order(key: Key) -> tuple[object, ...]:
    """The promised order: bytes, then text by code points, then numbers, then tuples by part."""
    if isinstance(key, bytes):
        return (0, key)
    if isinstance(key, str):
        return (1, tuple(map(ord, key)))
    if isinstance(key, int):
        return (2, key)
    return (3, tuple(order(part) for part in key))


@given(KEYS, KEYS)
@example(("a",), ("a\x00",))
@example(("a", "b"), ("a\x00b",))
@example((b"\x00",), (b"\x00\xff",))
@example(-1, 0)
@example(-256, -255)
@example(2**64 - 1, 255)
def test_bytes_order_as_keys(one: Key, other: Key) -> None:
    """The bytes of two keys compare as the keys do, so two keys never share their bytes."""
    first, second = encode_key(one), encode_key(other)
    assert (first < second) == (order(one) < order(other))
    assert (first == second) == (order(one) == order(other))


@given(KEYS)
def test_decode_turns_encode_round(key: Key) -> None:
    """Decoding gives the key back, with its type."""
    decoded = decode_key(encode_key(key))
    assert decoded == key
    assert type(decoded) is type(key)


@given(st.binary(max_size=24))
def test_foreign_bytes_are_damage_or_a_key(raw: bytes) -> None:
    """Any bytes either decode or raise Damaged, nothing else."""
    try:
        key = decode_key(raw)
    except Damaged:
        return
    assert isinstance(key, (str, bytes, int, tuple))


@given(st.lists(PARTS, max_size=4).map(tuple), st.data())
def test_a_cut_tuple_is_damage(key: tuple[KeyPart, ...], data: st.DataObject) -> None:
    """A tuple's bytes that are cut off anywhere don't decode."""
    encoded = encode_key(key)
    with pytest.raises(Damaged):
        decode_key(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@pytest.mark.parametrize(
    "key",
    [
        True,
        None,
        1.5,
        ["a"],
        ("a", None),
        ("a", ("b",)),
        ("a", True),
        object(),
        type("Name", (str,), {})("x"),
        {},
    ],
)
def test_other_types_are_refused(key: object) -> None:
    """Only str, bytes, int and flat tuples of them are keys."""
    with pytest.raises(InvalidKey, match=r"must be str, bytes, int or a flat tuple"):
        encode_key(key)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["\ud800", ("a", "\udfff")])
def test_lone_surrogates_are_refused(key: Key) -> None:
    """Text that is no valid Unicode is refused before it could make two keys equal."""
    with pytest.raises(InvalidKey, match="lone surrogate"):
        encode_key(key)


def test_normal_forms_stay_apart() -> None:
    """Composed and decomposed text are two keys: nothing is normalised."""
    assert encode_key("é") != encode_key("e\u0301")


@pytest.mark.parametrize("limit", [MAX_STORAGE_KEY_BYTES, MAX_ACTOR_KEY_BYTES])
def test_the_limit_is_exact(limit: int) -> None:
    """A key of just the limit is taken, one byte more is refused with both numbers."""
    assert len(encode_key("x" * (limit - 1), limit_bytes=limit)) == limit
    with pytest.raises(InvalidKey, match=rf"takes {limit + 1} bytes; at most {limit}"):
        encode_key("x" * limit, limit_bytes=limit)


def test_a_huge_key_makes_a_short_message() -> None:
    """The message of a refused key doesn't repeat ten thousand characters."""
    with pytest.raises(InvalidKey) as caught:
        encode_key("x" * 10_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [2**64, -(2**64)])
def test_numbers_beyond_64_bits_are_refused(value: int) -> None:
    """A number that doesn't fit is refused, with what to do instead."""
    with pytest.raises(InvalidKey, match="64 bits; store it as text"):
        encode_key(value)


@given(TEXT, TEXT)
def test_a_text_prefix_selects_just_the_texts_that_start_so(prefix: str, text: str) -> None:
    """A key lies in a text prefix's range if and only if it starts with that text."""
    low = encode_prefix(prefix)
    high = next_prefix(low)
    assert high is not None
    assert (low <= encode_key(text) < high) == text.startswith(prefix)


@given(st.lists(PARTS, max_size=3).map(tuple), KEYS)
def test_a_tuple_prefix_selects_just_the_tuples_that_start_so(prefix: tuple[KeyPart, ...], key: Key) -> None:
    """A key lies in a tuple prefix's range if and only if it is a tuple with these first parts."""
    low = encode_prefix(prefix)
    high = next_prefix(low)
    assert high is not None
    inside = isinstance(key, tuple) and order(key[: len(prefix)]) == order(prefix)
    assert (low <= encode_key(key) < high) == inside


@given(st.binary(max_size=6), st.binary(max_size=8))
def test_next_prefix_ends_the_range(prefix: bytes, key: bytes) -> None:
    """Everything from a prefix up to its next prefix starts with it, and nothing else does."""
    end = next_prefix(prefix)
    assert (prefix <= key and (end is None or key < end)) == key.startswith(prefix)


@given(st.integers(0, 2**63), st.integers(0, 2**63))
def test_numbers_order_and_come_back(one: int, other: int) -> None:
    """Compact numbers keep their order, and decode to themselves and their length."""
    assert (encode_number(one) < encode_number(other)) == (one < other)
    assert decode_number(b"x" + encode_number(one) + b"rest", 1) == (one, 1 + len(encode_number(one)))


def test_a_cut_number_is_damage() -> None:
    """A number whose bytes are missing is not read as a smaller one."""
    with pytest.raises(Damaged):
        decode_number(encode_number(70_000)[:-1])


FLOATS = st.floats(allow_nan=False)
ROWS = st.tuples(st.one_of(st.none(), TEXT), st.booleans(), FLOATS, INTS)


@given(ROWS, ROWS)
def test_index_values_order_field_by_field(
    one: tuple[str | None, bool, float, int], other: tuple[str | None, bool, float, int]
) -> None:
    """Entries of one index order as their values do, None first."""

    def rank(row: tuple[str | None, bool, float, int]) -> tuple[object, ...]:
        text, *rest = row
        return ((0, "") if text is None else (1, text), *rest)

    first, second = encode_index_values(one), encode_index_values(other)
    assert (first < second) == (rank(one) < rank(other))
    assert (first == second) == (rank(one) == rank(other))


def test_index_floats_at_the_edges() -> None:
    """Infinities are the ends, both zeros are one value, the smallest numbers stay apart."""
    values: list[IndexValue] = [-math.inf, -1.0, -5e-324, 0.0, 5e-324, 1.0, math.inf]
    encoded = [encode_index_values((value,)) for value in values]
    assert encoded == sorted(encoded)
    assert len(set(encoded)) == len(values)
    assert encode_index_values((-0.0,)) == encode_index_values((0.0,))


@given(st.lists(st.one_of(st.none(), st.booleans(), FLOATS, PARTS), min_size=1, max_size=3), PARTS)
def test_a_prefix_of_index_values_is_a_prefix_of_bytes(values: list[IndexValue], more: KeyPart) -> None:
    """The first values of an index select a range of it."""
    assert encode_index_values((*values, more)).startswith(encode_index_values(tuple(values)))
