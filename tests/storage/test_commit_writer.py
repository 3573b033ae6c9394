"""The thread that commits: a busy loop neither starves it nor waits a round more for what it did."""

import asyncio
import time
from collections.abc import Callable, Mapping

from holdfast.storage.commit_log import DURABLE, CommitResult, Space
from holdfast.storage.commit_writer import LEND_SECONDS
from holdfast.storage.group_commit import SLOW_ROUND_SECONDS, Batch, GroupCommit


class MemoryLog:
    """Keeps what was committed; each commit takes `seconds`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.commits: list[dict[bytes, bytes | None]] = []

    def commit(self, writes: Mapping[bytes, bytes | None], staged: Callable[[], None]) -> CommitResult:
        staged()
        time.sleep(self.seconds)
        self.commits.append(dict(writes))
        return DURABLE

    def space(self) -> Space:
        return Space(0, 1 << 40)


def group_on(log: MemoryLog) -> GroupCommit:
    def nothing(*_: object) -> None:
        pass

    def seal(batch: Batch) -> None:
        pass

    return GroupCommit(log, last_number=0, seal=seal, on_failed=nothing, on_broken=nothing, on_space=nothing)


async def rounds_until_durable(group: GroupCommit, round_seconds: float) -> int:
    """How often the loop comes round between staging a write and hearing of it, each round so long."""
    loop = asyncio.get_running_loop()
    rounds = 0
    heard = loop.create_future()

    def busy() -> None:
        nonlocal rounds
        if not heard.done():
            rounds += 1
            time.sleep(round_seconds)
            loop.call_soon(busy)

    loop.call_soon(busy)
    group.on_durable(group.stage({b"k": b"v"}), heard.set_result)
    assert await heard is None
    return rounds


async def test_in_a_slow_round_the_loop_waits_for_the_commit() -> None:
    """It is heard in the very round in which it left, not one later."""
    group = group_on(MemoryLog())
    await rounds_until_durable(group, 0)  # how long a commit takes is known now
    assert await rounds_until_durable(group, 2 * SLOW_ROUND_SECONDS) <= 2
    await group.close()


async def test_a_commit_that_takes_long_is_not_waited_for() -> None:
    """The loop goes on, and hears of it as always."""
    log = MemoryLog()
    group = group_on(log)
    await rounds_until_durable(group, 0)
    log.seconds = 20 * SLOW_ROUND_SECONDS
    assert await rounds_until_durable(group, 2 * SLOW_ROUND_SECONDS) > 2
    await group.close()


async def test_lending_over_and_over_loses_nothing() -> None:
    """Commits that are always later than usual: each is heard once, in order."""
    log = MemoryLog()
    group = group_on(log)
    heard: list[int] = []
    for number in range(1, 30):
        log.seconds = number * LEND_SECONDS
        staged = group.stage({b"%d" % number: b"v"})
        group.on_durable(staged, lambda error, number=number: heard.append(number))  # type: ignore[misc]
        await group.wait_durable(staged)
    await group.close()
    assert heard == list(range(1, 30))
    assert [list(one) for one in log.commits] == [[b"%d" % number] for number in heard]


async def test_closing_while_a_commit_is_late() -> None:
    """Whoever waits hears of it, and no timer is left behind."""
    log = MemoryLog(50 * LEND_SECONDS)
    group = group_on(log)
    heard: list[object] = []
    group.on_durable(group.stage({b"k": b"v"}), heard.append)
    await group.close()
    assert heard == [None]
    assert log.commits == [{b"k": b"v"}]
