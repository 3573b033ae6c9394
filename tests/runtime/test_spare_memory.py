"""Memory that large values took goes back to the system."""

import asyncio
import sys

import pytest

from holdfast.runtime.spare_memory import SPARE_BYTES, SpareMemory, anonymous_bytes

MIB = 1 << 20

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc gives memory back")


async def settle(spare: SpareMemory) -> None:
    spare.look(asyncio.get_running_loop())
    if spare._trimming is not None:
        await spare._trimming


async def test_what_was_freed_is_given_back() -> None:
    """After many large blocks were freed memory is again about what it was."""
    # The allocator takes blocks of a mebibyte from its heap once it saw larger ones freed.
    del (blocks := [[bytes(8 * MIB)]])[:]
    spare = SpareMemory()
    if not spare._usable:
        pytest.skip("the C library is not glibc")
    spare._give_back()  # what other tests left, which the blocks would be made of
    before = anonymous_bytes()
    blocks = [[b"x" * MIB for _ in range(64)], [b"y"]]
    blocks.append([b"z" * MIB])  # above them, so that they don't fall off the heap's end
    assert anonymous_bytes() > before + 60 * MIB
    blocks[0].clear()
    await settle(spare)
    assert anonymous_bytes() < before + 2 * SPARE_BYTES


async def test_memory_in_use_is_left_alone() -> None:
    """A process that holds much and has nothing to spare is trimmed at most once for it."""
    spare = SpareMemory()
    if not spare._usable:
        pytest.skip("the C library is not glibc")
    held = [b"x" * MIB for _ in range(2 * SPARE_BYTES // MIB)]
    await settle(spare)
    first = spare._trimming
    for _ in range(3):
        await settle(spare)
        await asyncio.sleep(0)
    assert spare._trimming is first
    assert len(held) == 2 * SPARE_BYTES // MIB
