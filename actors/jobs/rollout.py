"""A rollout by percent: which keys take the new way, the same at each call and in each process.

A key's place between 0 and 100 comes of its hash and the rollout's name.  So raising the percentage only
moves keys to the new way and lowering it only back, and two rollouts don't begin with the same keys.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from ...storage.errors import CallerError

# Percentages have so many decimals as show in a listing.
_STEPS: Final = 10_000


def rollout(name: str, key: str, percent: float) -> bool:
    """Whether `key` takes the new way, when `percent` of all keys do (0 to 100, to a hundredth).

    Raises `CallerError`.
    """
    return _place(name, key) < steps_of(percent)


def steps_of(percent: float) -> int:
    """A percentage in hundredths; raises `CallerError` for what is none."""
    if isinstance(percent, bool) or not 0 <= percent <= 100:  # also false for what is no number
        raise CallerError(f"a rollout is from 0 to 100 percent; got {percent!r:.100}")
    return round(percent * (_STEPS / 100))


def _place(name: str, key: str) -> int:
    # The length keeps ("a", "bc") and ("ab", "c") apart.
    text = f"{len(name)}:{name}{key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") % _STEPS
