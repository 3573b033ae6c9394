"""Who is signed in: sessions that live in memory, each behind a cookie that no script can read.

    a token in the form -> `Sessions.open` -> the cookie -> `Sessions.find` -> a `Session`

It lasts until it is closed, is older than `SESSION_SECONDS`, or is pushed out by newer ones.

The cookie holds chance and no token.  A restart of the process signs everybody out.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Final

import msgspec

from ..access import Caller

COOKIE: Final = "holdfast_session"
# A working day: who leaves a browser open over night signs in again.
SESSION_SECONDS: Final = 12 * 3600.0
# More than people who look at one process; what they keep is some hundred bytes each.
MAX_SESSIONS: Final = 1_000
MAX_NOTICE_CHARACTERS: Final = 2_000


class Session(msgspec.Struct):
    """Somebody who is signed in."""

    caller: Caller
    form_token: str
    """What each of this session's forms holds, and no other page can know."""
    ends_at: float
    notice: str = ""
    """What the next page tells, once."""
    notice_is_bad: bool = False

    def tell(self, text: str, *, bad: bool = False) -> None:
        """Have the next page tell it."""
        self.notice, self.notice_is_bad = text[:MAX_NOTICE_CHARACTERS], bad

    def take_notice(self) -> tuple[str, bool]:
        """What is to be told; it is told once."""
        told = self.notice, self.notice_is_bad
        self.notice = ""
        return told

    def knows(self, form_token: str) -> bool:
        """Whether a form is one of this session's."""
        return hmac.compare_digest(self.form_token.encode(), form_token.encode("utf-8", "replace"))


class Sessions:
    """All who are signed in to one service."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        # By digest, so that a look-up tells nothing of an id by its time; the oldest first.
        self._open: dict[bytes, Session] = {}

    def open(self, caller: Caller) -> str:
        """A new session; returns what its cookie holds."""
        now = self._now()
        for digest in [one for one, session in self._open.items() if session.ends_at <= now]:
            del self._open[digest]
        while len(self._open) >= MAX_SESSIONS:
            del self._open[next(iter(self._open))]
        session_id = secrets.token_urlsafe(32)
        self._open[_digest(session_id)] = Session(caller, secrets.token_urlsafe(24), now + SESSION_SECONDS)
        return session_id

    def find(self, session_id: str) -> Session | None:
        """The session of a cookie; None when there is none, or none any more."""
        session = self._open.get(_digest(session_id))
        return session if session is not None and session.ends_at > self._now() else None

    def close(self, session_id: str) -> None:
        """Sign out."""
        self._open.pop(_digest(session_id), None)


def _digest(session_id: str) -> bytes:
    return sha256(session_id.encode("utf-8", "replace")).digest()
