"""storage/values.py: a checksum before each value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.storage.errors import Damaged
from holdfast.storage.values import open_value, seal_value


@given(st.binary(min_size=1, max_size=40), st.binary(max_size=200))
def test_what_was_sealed_opens(key: bytes, payload: bytes) -> None:
    """A value comes back as it was, from bytes and from a view of the map."""
    sealed = seal_value(key, payload)
    assert open_value(key, sealed) == payload
    assert open_value(key, memoryview(sealed)) == payload


@given(st.binary(max_size=60))
def test_every_flipped_bit_is_found(payload: bytes) -> None:
    """No single flipped bit of a stored value, checksum or payload, goes unseen."""
    sealed = seal_value(b"key", payload)
    for bit in range(len(sealed) * 8):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            open_value(b"key", bytes(damaged))


def test_a_value_under_another_key_is_found() -> None:
    """A page that landed in another place is damage, although its bytes are whole."""
    with pytest.raises(Damaged, match="doesn't match its checksum"):
        open_value(b"other", seal_value(b"key", b"payload"))


@pytest.mark.parametrize("size", range(5))
def test_a_cut_value_is_found(size: int) -> None:
    """A value that is shorter than what was written is damage."""
    with pytest.raises(Damaged):
        open_value(b"key", seal_value(b"key", b"payload")[:size])
