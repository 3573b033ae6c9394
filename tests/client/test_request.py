"""client/request.py: how ids and queries stand in an address."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from holdfast.client.request import QueryValue, query_of, run_path


@pytest.mark.parametrize(
    ("id", "path"),
    [
        ("a/b", "/a/b"),
        ("a b?", "/a%20b%3F"),
        (7, "/~7"),
        (("a", 1), "/~%5B%22a%22%2C1%5D"),
        ("~7", "/~%22~7%22"),
        ("..", "/~%22..%22"),
        ("a/../b", "/a%2F..%2Fb"),
        ("a//b", "/a%2F%2Fb"),
    ],
)
def test_an_id_in_an_address(id: str | int | tuple[str | int, ...], path: str) -> None:
    """Every id has an address that no client and no server reads as another one."""
    assert run_path(id) == path
    assert unquote(path).startswith("/")


def test_a_query() -> None:
    """Sequences come several times, None and False not at all, True as a name."""
    query: dict[str, QueryValue] = {
        "status": ["a", "b"],
        "limit": 5,
        "newest": True,
        "workflow": None,
        "x": False,
    }
    assert query_of(query) == "status=a&status=b&limit=5&newest="
