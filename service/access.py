"""Who may ask: bearer tokens, each with a role, and perhaps with the one tenant that it is for.

    Authorization: Bearer SECRET -> `Access.caller` -> a `Caller` with the role that the route wants
                                                    -> `NoToken` (401), or a `PermissionError` (403)

Promise: which of the tokens was meant, or how much of one was right, doesn't show in the time of the answer.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from math import ceil, inf
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast, get_args

from starlette.requests import HTTPConnection

from ..actors.workflow.labels import check_label
from ..storage.errors import CallerError

if TYPE_CHECKING:
    from .pace import Pace

Role: TypeAlias = Literal["viewer", "operator"]
MIN_SECRET_CHARACTERS: Final = 16


class NoToken(Exception):
    """A request without a token that is known here."""


@dataclass(frozen=True, slots=True)
class Token:
    """A secret, what it is good for, and whose it is.

    secret   at least 16 printable characters of ASCII without blanks; `secrets.token_urlsafe()` makes one
    name     who is told in the audit to have done it
    role     a viewer sees; an operator also starts, sends and controls
    tenant   nothing of anybody else's is there for it
    per_second   requests that it may make in the long run; None: as many as it likes
    burst    of them at once; without it as many as in a second

    Raises `CallerError`.
    """

    secret: str = field(repr=False)
    name: str
    role: Role = "viewer"
    tenant: str | None = None
    per_second: float | None = None
    burst: int | None = None

    def __post_init__(self) -> None:
        """Refuse what can't be sent in a header, or is guessed too easily."""
        secret = cast("object", self.secret)
        if (
            not isinstance(secret, str)
            or len(secret) < MIN_SECRET_CHARACTERS
            or not (secret.isascii() and secret.isprintable())
            or " " in secret
        ):
            raise CallerError(
                f"the secret of token {self.name!r} must have at least {MIN_SECRET_CHARACTERS} printable "
                f"characters of ASCII and no blank"
            )
        check_label(self.name, "the name of a token")
        if self.role not in get_args(Role):
            raise CallerError(f"token {self.name}: role is viewer or operator; got {self.role!r}")
        if self.tenant is not None:
            check_label(self.tenant, "a tenant")
        rate, burst = cast("object", self.per_second), cast("object", self.burst)
        if rate is not None and (type(rate) not in (int, float) or not 0 < cast("float", rate) < inf):
            raise CallerError(f"token {self.name}: per_second is a number above 0; got {rate!r}")
        if burst is not None and (rate is None or type(burst) is not int or burst < 1):
            raise CallerError(
                f"token {self.name}: burst is a whole number from 1 on, beside per_second; got {burst!r}"
            )

    @property
    def caller(self) -> Caller:
        """Who asks with it."""
        return Caller(self.name, self.role, self.tenant)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    name: str
    role: Role
    tenant: str | None = None

    def must_be(self, role: Role) -> None:
        """Raise a `PermissionError` unless this role allows it."""
        if role == "operator" and self.role != "operator":
            raise PermissionError(f"this needs the role operator; the token of {self.name} has {self.role}")

    def must_be_nobodys(self, what: str) -> None:
        """Raise a `PermissionError` for who is bound to a tenant."""
        if self.tenant is not None:
            raise PermissionError(
                f"the token of {self.name} is tenant {self.tenant}'s; {what} is no tenant's"
            )


class Access:
    """The tokens of one service."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        """Raises `CallerError` when there is none, or two have one secret."""
        self._tokens = [(_digest(token.secret), token) for token in tokens]
        if not self._tokens:
            raise CallerError("a service needs at least one Token; without any, nobody could ask anything")
        if len({digest for digest, _ in self._tokens}) != len(self._tokens):
            raise CallerError("two tokens have the same secret")

    def caller(self, connection: HTTPConnection, role: Role) -> Caller:
        """Who asks; raises `NoToken`, or a `PermissionError` when the role isn't enough."""
        scheme, _, secret = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise NoToken("expected the header Authorization: Bearer TOKEN")
        caller = self.known(secret)
        caller.must_be(role)
        return caller

    def limit(self, pace: Pace) -> None:
        """Give a pace the rates of these tokens."""
        for _, token in self._tokens:
            if token.per_second is not None:
                pace.limit(token.caller, token.per_second, token.burst or ceil(token.per_second))

    def known(self, secret: str) -> Caller:
        """Whose token it is; raises `NoToken`."""
        given = _digest(secret.strip())
        found: Token | None = None
        for digest, token in self._tokens:  # all of them, whichever it is
            if hmac.compare_digest(digest, given):
                found = token
        if found is None:
            raise NoToken("this token is not known here")
        return found.caller


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()
