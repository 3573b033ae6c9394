"""storage/group_commit.py, with the commit log held in the hand of the test."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.storage.commit_log import DURABLE, CommitOutcome, CommitResult, Space
from holdfast.storage.commit_writer import ThreadWriter
from holdfast.storage.errors import Overloaded, StorageClosed, StorageFailed, StorageFull
from tests.storage.helpers import FAILED, UNKNOWN, Recorder, recorder, turn_loop


async def test_nothing_is_acknowledged_before_the_log_answers() -> None:
    """Who waits for a commit hears nothing until the log said durable."""
    async with recorder() as made:
        number = made.group.stage({b"a": b"1"})
        waiting = asyncio.create_task(made.group.wait_durable(number))
        heard: list[StorageFailed | None] = []
        made.group.on_durable(number, heard.append)
        await turn_loop(20)
        assert made.log.batches == [{b"a": b"1"}]
        assert (waiting.done(), heard, made.group.durable) == (False, [], 0)
        made.log.answer(DURABLE)
        await waiting
        assert (heard, made.group.durable) == ([None], number)


async def test_what_arrives_meanwhile_is_one_commit() -> None:
    """All write sets staged while a commit is under way become the next one, the later write winning."""
    async with recorder() as made:
        first = made.group.stage({b"a": b"1"})
        await turn_loop()
        numbers = {made.group.stage({b"b": b"%d" % n, b"c%d" % n: b""}) for n in range(5)}
        made.log.answer(DURABLE, DURABLE)
        await made.group.wait_durable(max(numbers))
        assert numbers == {first + 1}
        assert made.log.batches[1] == {b"b": b"4", **{b"c%d" % n: b"" for n in range(5)}}
        assert made.sealed == [first, first + 1]


async def test_a_failed_commit_fails_all_that_was_staged_behind_it() -> None:
    """The batch and everything sealed or gathered behind it fail, and none of it reaches the log later."""
    async with recorder(max_batch_puts=1) as made:
        numbers = [made.group.stage({b"%d" % n: b""}) for n in range(2)]
        await turn_loop()
        numbers += [made.group.stage({b"%d" % n: b""}) for n in range(2, 5)]
        waiting = [asyncio.create_task(made.group.wait_durable(number)) for number in numbers]
        await turn_loop()
        made.log.answer(FAILED)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [StorageFailed] * 5
        assert [number for number, _ in made.failures] == [numbers[0]]
        assert made.group.staged_bytes == 0
        assert made.group.layers() == [{}]
        assert made.log.batches == [{b"0": b""}]


async def test_on_failed_runs_before_any_waiter_hears() -> None:
    """What rests on a failed commit can be dropped before anybody acts on the failure."""
    async with recorder() as made:
        number = made.group.stage({b"a": b""})
        seen: list[int] = []
        made.group.on_durable(number, lambda error: seen.append(len(made.failures)))
        made.log.answer(FAILED)
        with pytest.raises(StorageFailed):
            await made.group.wait_durable(number)
        assert seen == [1]


async def test_numbers_of_failed_commits_are_never_used_again() -> None:
    """The first commit after a failure has a number behind all that failed, which stay failed for ever."""
    async with recorder(max_batch_puts=1) as made:
        failed = [made.group.stage({b"%d" % n: b""}) for n in range(3)]
        made.log.answer(FAILED, DURABLE, FAILED)
        with pytest.raises(StorageFailed):
            await made.group.wait_durable(failed[-1])
        good = made.group.stage({b"x": b""})
        await made.group.wait_durable(good)
        worse = made.group.stage({b"y": b""})
        with pytest.raises(StorageFailed):
            await made.group.wait_durable(worse)
        assert failed == [1, 2, 3]
        assert good > failed[-1]
        assert worse > good
        for number in (*failed, worse):
            with pytest.raises(StorageFailed):
                await made.group.wait_durable(number)
            assert made.group.failure(number) is not None
        assert made.group.failure(good) is None
        await made.group.wait_durable(good)


async def test_a_long_row_of_failures_is_kept_as_one() -> None:
    """A disk that stays full doesn't make every later wait slower: failures side by side are one range."""
    async with recorder() as made:
        for _ in range(30):
            number = made.group.stage({b"a": b""})
            made.log.answer(FAILED)
            with pytest.raises(StorageFailed):
                await made.group.wait_durable(number)
        assert len(made.group._failed) == 1
        assert all(made.group.failure(number) for number in range(1, 31))


async def test_the_kind_of_failure_reaches_who_waits() -> None:
    """A full disk is told as StorageFull, to tasks, callbacks and later questions."""
    async with recorder() as made:
        number = made.group.stage({b"a": b""})
        heard: list[StorageFailed | None] = []
        made.group.on_durable(number, heard.append)
        made.log.answer(CommitResult(CommitOutcome.NOT_HAPPENED, StorageFull("no room")))
        with pytest.raises(StorageFull, match="no room"):
            await made.group.wait_durable(number)
        with pytest.raises(StorageFull, match="no room"):
            made.group.raise_if_failed(number)
        made.group.on_durable(number, heard.append)
        assert [type(error) for error in heard] == [StorageFull, StorageFull]


async def test_an_unknown_outcome_is_final() -> None:
    """After a commit of unknown outcome nothing is committed any more, and everybody is told."""
    async with recorder() as made:
        number = made.group.stage({b"a": b""})
        made.log.answer(UNKNOWN)
        with pytest.raises(StorageFailed, match="leaves this commit open"):
            await made.group.wait_durable(number)
        assert [type(error) for error in made.broken] == [StorageClosed]
        for _ in range(2):
            with pytest.raises(StorageClosed, match="closed itself"):
                made.group.stage({b"b": b""})
        await turn_loop()
        assert len(made.log.batches) == 1


async def test_a_log_that_raises_leaves_the_outcome_unknown() -> None:
    """A mistake of the log itself is never taken for success, nor for a clean failure."""
    async with recorder() as made:
        number = made.group.stage({b"a": b""})
        made.log.answer(ZeroDivisionError("a bug"))
        with pytest.raises(StorageFailed, match="ZeroDivisionError"):
            await made.group.wait_durable(number)
        assert len(made.broken) == 1


async def test_not_knowing_the_room_is_no_failure() -> None:
    """A commit that is durable stays durable when looking at the free space fails."""
    async with recorder() as made:

        def fail() -> Space:
            raise OSError("no such device")

        made.log.space = fail  # type: ignore[method-assign]
        number = made.group.stage({b"a": b""})
        made.log.answer(DURABLE)
        await made.group.wait_durable(number)
        assert (made.group.durable, made.broken, made.spaces) == (number, [], [])


async def test_a_mistake_in_on_failed_hides_no_failure() -> None:
    """Waiters hear of a failed commit, and the store of an unknown one, although `on_failed` raises."""
    loop = asyncio.get_running_loop()
    reported: list[object] = []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    async with recorder() as made:

        def raise_it(number: int, error: StorageFailed) -> None:
            raise ZeroDivisionError

        made.group._on_failed = raise_it
        number = made.group.stage({b"a": b""})
        made.log.answer(UNKNOWN)
        with pytest.raises(StorageFailed):
            await made.group.wait_durable(number)
        assert len(made.broken) == 1
    assert [type(error) for error in reported] == [ZeroDivisionError]


def raise_key_error(error: StorageFailed | None) -> None:
    raise KeyError(error)


async def test_a_mistake_in_a_callback_stops_nobody() -> None:
    """The other callbacks of a commit run, and later commits go on, when one raises."""
    loop = asyncio.get_running_loop()
    reported: list[object] = []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    async with recorder() as made:
        number = made.group.stage({b"a": b""})
        heard: list[StorageFailed | None] = []
        made.group.on_durable(number, raise_key_error)
        made.group.on_durable(number, heard.append)
        made.log.answer(DURABLE, DURABLE)
        await made.group.wait_durable(number)
        await made.group.wait_durable(made.group.stage({b"b": b""}))
        assert heard == [None]
    assert [type(error) for error in reported] == [KeyError]


@pytest.mark.parametrize("answer", [DURABLE, FAILED])
async def test_a_cancelled_waiter_disturbs_nobody(answer: CommitResult) -> None:
    """Cancelling one of many waiters changes nothing for the others, nor for the commit."""
    async with recorder() as made:
        number = made.group.stage({b"a": b""})
        waiting = [asyncio.create_task(made.group.wait_durable(number)) for _ in range(3)]
        await turn_loop()
        waiting[1].cancel()
        made.log.answer(answer)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        expected = type(None) if answer is DURABLE else StorageFailed
        assert [type(result) for result in results] == [expected, asyncio.CancelledError, expected]


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 300)), min_size=1, max_size=25))
def test_batches_respect_the_caps_and_never_split_a_write_set(sets: list[tuple[int, int]]) -> None:
    """A batch passes no cap unless a single write set is larger, and each set lies in one batch."""

    async def run() -> None:
        async with recorder(max_batch_puts=8, max_batch_bytes=1500) as made:
            made.log.answer(*[DURABLE] * (len(sets) + 1))
            numbers: dict[int, int] = {}
            for at, (count, size) in enumerate(sets):
                writes: dict[bytes, bytes | None] = {b"%d/%d" % (at, n): bytes(size) for n in range(count)}
                numbers[at] = made.group.stage(writes)
            await made.group.wait_durable(max(numbers.values()))
            assert sorted(numbers.values()) == list(numbers.values())
            seen: dict[int, int] = {}
            for position, batch in enumerate(made.log.batches):
                owners = {int(key.split(b"/")[0]) for key in batch}
                assert not owners & set(seen)
                seen.update(dict.fromkeys(owners, position))
                assert sum(sets[at][0] for at in owners) == len(batch)
                if len(owners) > 1:
                    assert len(batch) <= 8
                    assert sum(count * (size + 64) for count, size in (sets[at] for at in owners)) <= 1500
            assert set(seen) == set(numbers)

    asyncio.run(run())


async def test_overload_is_refused_before_anything_is_staged() -> None:
    """Beyond the bound a write set is refused whole; the reserve may pass; commits make room."""
    async with recorder(max_staged_bytes=1000) as made:
        first = made.group.stage({b"a": bytes(800)})
        for _ in range(2):
            with pytest.raises(Overloaded, match="max_staged_bytes=1000"):
                made.group.stage({b"b": bytes(200)})
        assert made.group.find(b"b", b"missing") == b"missing"
        reserved = made.group.stage({b"c": bytes(200)}, bounded=False)
        made.log.answer(DURABLE, DURABLE)
        await made.group.wait_durable(reserved)
        made.log.answer(DURABLE)
        await made.group.wait_durable(made.group.stage({b"b": bytes(200)}))
        assert first == reserved
        assert made.group.staged_bytes == 0


async def test_reads_see_every_layer_newest_first() -> None:
    """`find` and `layers` show what gathers over what is sealed over what is in flight."""
    async with recorder(max_batch_puts=2) as made:
        made.group.stage({b"a": b"1", b"b": b"1"})
        await turn_loop()
        made.group.stage({b"b": b"2", b"c": b"2"})
        made.group.stage({b"c": None, b"d": b"3"})
        made.group.stage({b"d": b"4"})
        assert len(made.group.layers()) == 4
        found = {key: made.group.find(key, b"missing") for key in (b"a", b"b", b"c", b"d", b"e")}
        assert found == {b"a": b"1", b"b": b"2", b"c": None, b"d": b"4", b"e": b"missing"}


async def test_an_empty_write_set_rests_on_what_was_staged_before() -> None:
    """Staging nothing gives the newest commit that isn't decided yet, or the last durable one."""
    async with recorder() as made:
        assert made.group.stage({}) == 0
        number = made.group.stage({b"a": b""})
        await turn_loop()
        assert made.group.stage({}) == number
        waiting = asyncio.create_task(made.group.wait_durable(made.group.stage({})))
        await turn_loop()
        assert not waiting.done()
        made.log.answer(DURABLE)
        await waiting
        assert made.group.stage({}) == number


async def test_numbers_go_on_where_the_store_ended() -> None:
    """The first commit after opening has the stored number plus one."""
    async with recorder(last_number=41) as made:
        assert made.group.stage({b"a": b""}) == 42
        made.log.answer(DURABLE)
        await made.group.wait_durable(41)


async def test_close_makes_everything_durable() -> None:
    """Closing waits until all that was staged, also meanwhile, is on disk."""
    async with recorder(max_batch_puts=1) as made:
        numbers = [made.group.stage({b"%d" % n: b""}) for n in range(4)]
        closing = asyncio.create_task(made.group.close())
        await turn_loop()
        assert not closing.done()
        numbers.append(made.group.stage({b"late": b""}))
        made.log.answer(*[DURABLE] * 5)
        await closing
        assert made.group.durable == numbers[-1]
        with pytest.raises(StorageClosed):
            made.group.stage({b"x": b""})


async def test_close_goes_on_after_a_failure() -> None:
    """What is staged after a failed commit while closing is still made durable."""
    async with recorder() as made:
        made.group.stage({b"a": b""})
        closing = asyncio.create_task(made.group.close())
        await turn_loop()
        staged: list[int] = []
        loop = asyncio.get_running_loop()

        def stage_more(number: int, error: StorageFailed) -> None:
            loop.call_soon(lambda: staged.append(made.group.stage({b"b": b""})))

        made.group._on_failed = stage_more
        made.log.answer(FAILED, DURABLE)
        await closing
        assert made.group.durable == staged[0]


async def test_abandon_fails_what_is_staged() -> None:
    """Who waits for a write that is dropped by `abandon` is told, and what is under way is told truly."""
    async with recorder(max_batch_puts=1) as made:
        numbers = [made.group.stage({b"%d" % n: b""}) for n in range(3)]
        await turn_loop()
        waiting = [asyncio.create_task(made.group.wait_durable(number)) for number in numbers]
        await turn_loop()
        made.log.answer(DURABLE)
        made.group.abandon(StorageClosed("the test gives up"))
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results] == [type(None), StorageFailed, StorageFailed]
        assert "gives up" in str(results[1])
        assert made.group.durable == numbers[0]
        assert len(made.log.batches) == 1


async def test_failures_told_out_of_order_are_still_found() -> None:
    """A commit that fails after the store was abandoned and what was dropped then are one range."""
    async with recorder(max_batch_puts=1) as made:
        numbers = [made.group.stage({b"%d" % n: b""}) for n in range(3)]
        await turn_loop()
        made.log.answer(FAILED)
        made.group.abandon(StorageClosed("the test gives up"))
        await turn_loop()
        assert all(made.group.failure(number) is not None for number in numbers)


async def test_the_loop_waits_only_for_the_puts() -> None:
    """The hand-shake holds the loop until the puts are in, and no longer."""
    async with recorder() as made:
        loop_thread = threading.get_ident()
        staged_in: list[int] = []
        made.log.in_staged = lambda: staged_in.append(threading.get_ident())
        made.group.stage({b"a": b""})
        await asyncio.sleep(0)
        # The loop is here again although the log hasn't answered.
        assert len(staged_in) == 1
        assert staged_in[0] != loop_thread
        assert made.group.durable == 0


async def test_what_a_woken_task_stages_leaves_in_the_same_round() -> None:
    """The next commit is handed over before the loop comes round again, which a saturated one does seldom."""
    async with recorder() as made:
        before_next_round: list[int] = []

        async def write_twice() -> None:
            await made.group.wait_durable(made.group.stage({b"a": b"1"}))
            asyncio.get_running_loop().call_soon(lambda: before_next_round.append(len(made.log.batches)))
            await made.group.wait_durable(made.group.stage({b"a": b"2"}))

        made.log.answer(DURABLE, DURABLE)
        await write_twice()
        assert before_next_round == [2]


async def test_a_saturated_loop_commits() -> None:
    """Beside tasks that are always runnable commits go on: each within a few turns of the loop, not never."""
    turns = 0
    stop = False

    async def spin() -> None:
        nonlocal turns
        while not stop and turns < 20_000:
            sum(range(20_000))
            turns += 1
            await asyncio.sleep(0)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(50e-6)  # as the runtime does
    try:
        async with recorder() as made:
            made.log.answer(*[DURABLE] * 50)
            spinning = [asyncio.create_task(spin()) for _ in range(8)]
            for n in range(50):
                await made.group.wait_durable(made.group.stage({b"%d" % n: b"x"}))
            stop = True
            await asyncio.gather(*spinning)
    finally:
        sys.setswitchinterval(interval)
    assert made.group.commits == 50
    assert turns < 20_000


def test_a_loop_that_ended_takes_the_writer_with_it() -> None:
    """A store that was never closed leaves no thread behind that commits for nobody."""

    async def run() -> Recorder:
        made = Recorder()
        made.group.stage({b"a": b""})
        await turn_loop()
        return made

    made = asyncio.run(run())
    made.log.answer(DURABLE)
    writer = made.group._writer
    assert isinstance(writer, ThreadWriter)
    writer.thread.join(timeout=30)
    assert not writer.thread.is_alive()
