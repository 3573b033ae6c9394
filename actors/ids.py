"""Fresh ids: of messages, of correlations, of runs that were started without one.

Each is 128 bits of chance: two that are the same are never met.
"""

from __future__ import annotations

import random
import uuid
from typing import Final

# From the system's source once; a UUID for each run would ask it again and again.
_random: Final = random.Random()  # ids, not secrets


def new_id() -> str:
    """A fresh id, as 32 hexadecimal digits."""
    return f"{_random.getrandbits(128):032x}"


def new_uuid() -> str:
    """A fresh id that is a UUID (version 4), as 32 hexadecimal digits."""
    return uuid.UUID(int=_random.getrandbits(128), version=4).hex


def seed_ids(seed: int | None) -> None:
    """Fix the ids that this process gives from now on; None takes that back.  For simulations."""
    _random.seed(seed)
