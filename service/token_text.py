"""Tokens as text, in a file or a variable of the environment, and one that is made when nobody gave any.

    ann:operator=4Kv...            name, role, secret
    shop:viewer@acme=9dQ...        ... of tenant acme
    # a remark, to the end of its line

An entry holds no blank, and blanks or line ends stand between entries.  No error shows a secret.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from ..storage.errors import CallerError
from .access import Role, Token

TOKENS_VARIABLE: Final = "HOLDFAST_TOKENS"
MADE_NAME: Final = "console"
_REMARK: Final = re.compile(r"#.*")


def read_tokens(text: str, where: str) -> list[Token]:
    """The tokens of a text; `where` begins the message of an error.  Raises `CallerError`."""
    found: list[Token] = []
    for number, entry in enumerate(_REMARK.sub("", text).split(), 1):
        head, equals, secret = entry.partition("=")
        name, colon, role_and_tenant = head.partition(":")
        role, at, tenant = role_and_tenant.partition("@")
        if not (name and colon and equals):
            raise CallerError(
                f"{where}: token {number} is not like NAME:ROLE=SECRET or NAME:ROLE@TENANT=SECRET, with the "
                f"role viewer or operator"
            )
        try:
            found.append(Token(secret, name, cast("Role", role), tenant if at else None))
        except CallerError as error:
            raise CallerError(f"{where}: token {number}: {error}") from error
    if not found:
        raise CallerError(f"{where}: there is no token in it; expected NAME:ROLE=SECRET")
    return found


def find_tokens(file: Path | None, environment: Mapping[str, str]) -> list[Token]:
    """The tokens of a file where one is named, else of `HOLDFAST_TOKENS`, else none.

    Raises `CallerError`, also for a variable that is there and empty.
    """
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise CallerError(f"the tokens in {file} can't be read: {error}") from error
        return read_tokens(text, str(file))
    given = environment.get(TOKENS_VARIABLE)
    return [] if given is None else read_tokens(given, TOKENS_VARIABLE)


def make_token() -> Token:
    """A new token of an operator."""
    return Token(secrets.token_urlsafe(), MADE_NAME, "operator")
