"""What all tests share.

An `async def test_x()` needs no mark: anyio's plugin runs it (`anyio_mode = "auto"` in pyproject.toml).
"""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run coroutine tests on plain asyncio, the loop that every user has."""
    return "asyncio", {"use_uvloop": False}
