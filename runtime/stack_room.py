"""Room on the stack: nobody gets hold of an actor with too little of it left to end a turn.

Code that calls itself without end meets Python's recursion limit at any line, and that line could be one of
ours: between taking an actor and letting it go, or between adding writes to a commit and sending it off.  The
actor would stay taken for ever, or no commit would leave any more.  So step 2 of a call looks first: a turn
that begins has the frames that staging it or rolling it back needs.
"""

from __future__ import annotations

import sys
from typing import Final

# Ending a turn takes some 20 frames below those of the call; the rest is for what its callbacks do.
ROOM_FRAMES: Final = 80
# A stack with fewer frames than a fourth of the limit has room, though one of them counts as up to three when
# calls go through C.  Looking costs 0.2 us, trying out the room 2 us.
_SHALLOW_SHARE: Final = 4


def check_stack_room() -> None:
    """Raise `RecursionError` when fewer than `ROOM_FRAMES` frames are left."""
    try:
        sys._getframe(sys.getrecursionlimit() // _SHALLOW_SHARE)  # pyright: ignore[reportPrivateUsage]
    except ValueError:
        return  # there are not so many
    try:
        _descend(ROOM_FRAMES)
    except RecursionError:
        raise RecursionError(
            f"fewer than {ROOM_FRAMES} frames are left on the stack, too few to call an actor; does "
            "something call itself without end?"
        ) from None


def _descend(frames: int) -> None:
    if frames:
        _descend(frames - 1)
