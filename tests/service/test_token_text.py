"""service/token_text.py: tokens in files and in the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast import CallerError
from holdfast.service import Token
from holdfast.service.token_text import find_tokens, make_token, read_tokens

ANN, SHOP = "a" * 16, "s==s@s:s-s-s-s-s-s"


def test_reads_tokens() -> None:
    """Entries between blanks and lines, with remarks; a secret may hold the signs that separate."""
    text = f"# ours\nann:operator={ANN}  # she\n\nshop:viewer@acme={SHOP}\n"
    assert read_tokens(text, "tokens") == [
        Token(ANN, "ann", "operator"),
        Token(SHOP, "shop", "viewer", "acme"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no token"),
        ("# nothing", "there is no token"),
        (ANN, "token 1 is not like NAME:ROLE=SECRET"),
        (f"ann={ANN}", "token 1 is not like NAME:ROLE=SECRET"),
        (f":operator={ANN}", "token 1 is not like NAME:ROLE=SECRET"),
        (f"ann:operator={ANN} bo:chief={ANN}", "token 2: .*role is viewer or operator"),
        (f"ann:operator@={ANN}", "token 1: a tenant"),
        ("ann:operator=tooshort", "token 1: .*at least 16"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    """The error says which, what was expected, and no secret."""
    with pytest.raises(CallerError, match=f"^here: {message}") as raised:
        read_tokens(text, "here")
    assert ANN not in str(raised.value)
    assert "tooshort" not in str(raised.value)


def test_finds_tokens(tmp_path: Path) -> None:
    """A file that is named, else the variable, else none; an empty variable is a mistake."""
    file = tmp_path / "tokens"
    file.write_text(f"ann:operator={ANN}\n")
    environment = {"HOLDFAST_TOKENS": f"shop:viewer={SHOP}"}
    assert [one.name for one in find_tokens(file, environment)] == ["ann"]
    assert [one.name for one in find_tokens(None, environment)] == ["shop"]
    assert find_tokens(None, {}) == []
    with pytest.raises(CallerError, match="HOLDFAST_TOKENS: there is no token"):
        find_tokens(None, {"HOLDFAST_TOKENS": ""})
    with pytest.raises(CallerError, match="can't be read"):
        find_tokens(tmp_path / "none", environment)


def test_makes_tokens() -> None:
    """Each another one."""
    assert make_token().secret != make_token().secret
