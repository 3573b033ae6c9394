"""The idempotency key of a step: what its effect in other systems is tied to.

Promises
  * It is the same in all attempts of the step, whatever crashes come in between.
  * No other step of any run has it: not of a run whose id looks alike (1 and "1"), nor of one that has the
    same id after it was replaced, restarted or continued as new.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .ops import Op

# What systems take that know such keys as a header of HTTP.
MAX_KEY_CHARACTERS: Final = 255
_START_BYTES: Final = 6
_DIGEST_BYTES: Final = 20


def step_key(op: Op, below: str = "") -> str:
    """The key of a step, or, with a text that tells them apart, that of something below it."""
    run = op.run
    started = run.started
    begun = f"{started.at_ms} {started.generation} {started.correlation_id}"
    start = blake2b(begun.encode("utf-8", "backslashreplace"), digest_size=_START_BYTES).hexdigest()
    return short_key(f"{run.activation.ref}@{run.activation.number}-{start}#{op.name}#{op.nth}{below}")


def short_key(key: str) -> str:
    """The key itself, or a digest in place of one that is too long for other systems or no plain ASCII."""
    if len(key) <= MAX_KEY_CHARACTERS and key.isascii() and key.isprintable():
        return key
    return blake2b(key.encode("utf-8", "backslashreplace"), digest_size=_DIGEST_BYTES).hexdigest()
