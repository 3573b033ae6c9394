"""`self.version(tag, number)`: which way a run goes where its code was changed.

A call that the run comes to for the first time takes the number that the code gives, and a record of it joins
the next commit of the run: with the next outcome, the next rest, or the end.  A call that the run was beyond
before it stood in the code takes 0.  The run was beyond it

  * if something is recorded that run() hadn't asked for when it made the call, or
  * if it came to rest (for a sleep or a retry) after the outcome that led to the call.

Every record that is made behind a call is made after the call's own, so a call without a record, and with one
of these, wasn't there.  Without both, nothing that lies behind the call is on disk: no number was lost with a
crash, and the call takes the code's.  Steps that were begun behind such a point and have no record are begun
again, as after any crash, or not, if the changed code doesn't ask for them.

Tags are not asked for in any order, and a record whose call was taken away is left alone.
"""

from __future__ import annotations

from typing import Final

from ...storage.errors import CallerError, InvalidKey

MAX_TAG_CHARACTERS: Final = 256
MAX_VERSION: Final = 2**31 - 1


def check_version(tag: object, number: object, run: str) -> None:
    """Raise `InvalidKey` for a tag, and `CallerError` for a number, that can't be used."""
    if not isinstance(tag, str) or not 0 < len(tag) <= MAX_TAG_CHARACTERS or not tag.isprintable():
        raise InvalidKey(
            f"{run}: the tag of a version must have 1 to {MAX_TAG_CHARACTERS} printable characters; "
            f"got {tag!r}"
        )
    if type(number) is not int or not 1 <= number <= MAX_VERSION:
        raise CallerError(
            f"{run}: the number of version {tag!r} must be a whole number from 1 to {MAX_VERSION} (0 is for "
            f"runs that were beyond it before); got {number!r}"
        )
