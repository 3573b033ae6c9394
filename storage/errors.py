"""The error tree: every error the library raises by itself is a `HoldfastError`.

The first level says who is to blame, and so what to do:

    CallerError     the call was wrong: mend the arguments and call again
    ActorError      code of an actor or workflow broke a rule: mend that code
    StorageError    disk, folder or database: see the message for what to do
    InternalError   our own mistake: report it

The layers above add their own members (`runtime/errors.py`, `actors/errors.py`).  Errors raised by user code
are never wrapped: they reach the caller as they are.
"""

from __future__ import annotations

from typing import TypeVar


class HoldfastError(Exception):
    """Root of every error that Holdfast raises by itself."""


class CallerError(HoldfastError):
    """The caller asked for something that can't be done; nothing was changed."""


class ActorError(HoldfastError):
    """Code of an actor or a workflow broke a rule; its turn was rolled back."""


class StorageError(HoldfastError):
    """The store can't do what was asked; what was acknowledged before is unharmed."""


class InternalError(HoldfastError):
    """A rule that the library sets itself was broken.  Please report it."""


# -- the caller's --------------------------------------------------------------------------------------------


class InvalidKey(CallerError, ValueError):
    """A key has the wrong type or is too long."""


class InvalidValue(CallerError, ValueError):
    """A value can't be encoded, doesn't match its declared type, or is too large."""


class Overloaded(CallerError):
    """A bounded queue is full.  Nothing was done; try again later, with back-off."""


# -- the store's ---------------------------------------------------------------------------------------------


class StorageFailed(StorageError):
    """A commit did not reach the disk, so everything that rested on it was undone."""


class StorageFull(StorageFailed):
    """The quota or the disk is full: writes that grow the store are refused, reads and deletes still work."""


class StorageClosed(StorageError):
    """The store was closed, or closed itself after a commit whose outcome is unknown."""


class FolderInUse(StorageError):
    """Another process (or another runtime of this one) owns the folder."""


class FolderRefused(StorageError):
    """The folder can't be used: its rights, its file system or its contents are wrong."""


class FormatRefused(StorageError):
    """The folder was written in a format that this version doesn't read."""


class Damaged(StorageError):
    """Stored bytes are not what was written: a checksum doesn't match or the file is cut off."""


class ForkedProcess(StorageError):
    """A forked child used a store that its parent opened."""


E = TypeVar("E", bound=HoldfastError)


def fresh(error: E) -> E:
    """A copy of a lasting error, to raise.

    Raising the same object again and again would lengthen its traceback for ever.
    """
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy
