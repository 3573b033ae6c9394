"""Steps: retries, timeouts, kinds of bodies, what goes in and what comes out."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from holdfast import Counter, Fatal, Retry, RetryAfter, Runtime, StepError, Workflow
from holdfast.actors.current_step import current_step
from holdfast.actors.errors import RunFailed
from holdfast.actors.workflow.journal import AttemptFailed, StepDone, StepFailed
from holdfast.runtime.clock import ManualClock
from holdfast.storage.errors import CallerError
from holdfast.testing import Crash, simulate
from tests.actors.workflow.support import Folder, pass_time, play, settle, soon, until

CALLS: list[Any] = []
GATE: list[asyncio.Event] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    CALLS.clear()
    GATE[:] = [asyncio.Event()]


# -- retries -------------------------------------------------------------------------------------------------


async def fails(times: int) -> int:
    """Fail in the first so many attempts."""
    step = current_step()
    assert step is not None
    CALLS.append(step.attempt)
    if step.attempt <= times:
        raise OSError(f"attempt {step.attempt}")
    return step.attempt


class Tries(Workflow):
    async def run(self, policy: dict[str, Any]) -> int:
        times = policy.pop("times")
        return await self.step(fails, times, retry=Retry(**policy))


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        ({"backoff": "constant"}, [10, 10, 10, 10]),
        ({"backoff": "linear"}, [10, 20, 30, 40]),
        ({"backoff": "exponential"}, [10, 20, 40, 80]),
        ({"backoff": "exponential", "cap": 25}, [10, 20, 25, 25]),
        ({"backoff": "linear", "cap": "15s"}, [10, 15, 15, 15]),
    ],
)
async def test_waits_follow_the_policy(
    rt: Runtime, clock: ManualClock, policy: dict[str, Any], waits: list[int]
) -> None:
    """AC-49: the n-th wait is exactly what the policy says, to the millisecond."""
    run = await rt.start(Tries, {"limit": 4, "delay": 10, "jitter": 0, "times": 4, **policy})
    assert await play(rt, clock, run) == 5
    failed = [record for record in await run.history() if isinstance(record, AttemptFailed)]
    assert [record.next_ms - record.at_ms for record in failed] == [seconds * 1000 for seconds in waits]
    starts = [failed[0].at_ms, *[record.next_ms for record in failed]]
    assert [record.at_ms for record in failed] == starts[:-1]


async def test_a_retry_is_not_early(rt: Runtime, clock: ManualClock) -> None:
    """A moment before the time nothing runs."""
    await rt.start(Tries, {"limit": 1, "delay": 10, "jitter": 0, "times": 1})
    await settle(rt)
    clock.advance(9.999)
    await settle(rt)
    assert CALLS == [1]
    clock.advance(0.001)
    await settle(rt)
    assert CALLS == [1, 2]


class Patient(Workflow):
    async def run(self) -> float:
        """A retry after an hour, beside naps of twenty-five minutes; returns when both were over."""
        began = self.now()

        async def nap() -> None:
            for _ in range(2):
                await self.sleep("25m")

        await asyncio.gather(self.step(fails, 1, retry=Retry(1, "1h", "constant", jitter=0)), nap())
        return (self.now() - began).total_seconds()


def test_a_retry_is_not_early_when_the_run_was_out_of_memory_or_died_before_it() -> None:
    """Its time is the recorded one, also for a run that other things wake in between."""

    def story(crash: Crash | None) -> list[Crash]:
        with simulate() as sim:
            if crash is not None:
                sim.crash_at(crash)
            assert sim.result(sim.start(Patient)) == 3600
            return sim.places

    for place in story(None):
        story(place)


async def test_jitter_only_lengthens(rt: Runtime, clock: ManualClock) -> None:
    """Jitter adds up to its share of the wait."""
    run = await rt.start(Tries, {"limit": 4, "delay": 10, "jitter": 0.5, "backoff": "constant", "times": 4})
    await play(rt, clock, run)
    waits = [
        record.next_ms - record.at_ms for record in await run.history() if isinstance(record, AttemptFailed)
    ]
    assert all(10_000 <= wait <= 15_000 for wait in waits)
    assert len(set(waits)) > 1


async def test_limit_is_retries_after_the_first_attempt(rt: Runtime, clock: ManualClock) -> None:
    """Limit n makes n + 1 attempts, limit 0 makes one."""
    for limit in (0, 2):
        CALLS.clear()
        run = await rt.start(Tries, {"limit": limit, "delay": 1, "times": 99})
        with pytest.raises(RunFailed, match=f"tried {'once' if limit == 0 else '3 times'}"):
            await play(rt, clock, run)
        assert list(range(1, limit + 2)) == CALLS


async def test_a_waiting_retry_shows_as_retrying(rt: Runtime) -> None:
    """A run that only waits for a retry is `retrying` and takes no place."""
    run = await rt.start(Tries, {"limit": 1, "delay": 10, "times": 1})
    await settle(rt)
    assert await run.status() == "retrying"
    assert rt.engine.places.running == 0


@pytest.mark.parametrize(
    "bad",
    [
        {"limit": -1},
        {"limit": 1.5},
        {"limit": 10_001},
        {"delay": -1},
        {"delay": "soon"},
        {"backoff": "quadratic"},
        {"jitter": 2},
        {"cap": -1},
        {"delay": float("nan")},
        {"jitter": float("nan")},
    ],
)
def test_policies_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    """A policy is checked when it is made."""
    with pytest.raises(CallerError):
        Retry(**bad)


def test_waits_of_many_attempts_stay_finite() -> None:
    """Ten thousand attempts of the steepest policy don't overflow."""
    import random

    assert Retry(10_000, 1e9, cap=1e9, jitter=0).wait_seconds(10_000, random.Random(1)) == 1e9


async def fatal(kind: str) -> None:
    CALLS.append(1)
    if kind == "sub":
        raise Hopeless("no use")
    raise Fatal("no use")


class Hopeless(Fatal):
    """A fatal error of the user's own."""


class Caught(Workflow):
    async def run(self, kind: str) -> str:
        try:
            await self.step(fatal, kind)
        except StepError as error:
            await self.step(note, "cleaned up")
            cause = error.cause
            return f"{error.step} {error.nth} {error.attempts} {cause.type} {cause.message} {cause.fatal}"
        return "not failed"


async def note(text: str) -> None:
    CALLS.append(text)


@pytest.mark.parametrize(("kind", "name"), [("plain", "Fatal"), ("sub", "Hopeless")])
async def test_a_fatal_error_is_not_tried_again_and_can_be_caught(rt: Runtime, kind: str, name: str) -> None:
    """`Fatal` ends a step at the first attempt; `run()` may catch the error, and then it completes."""
    assert await soon((await rt.start(Caught, kind)).result()) == f"fatal 1 1 {name} no use True"
    assert CALLS == [1, "cleaned up"]


async def test_a_caught_failure_stays_caught_on_replay(folder: Folder, clock: ManualClock) -> None:
    """The final failure of a step is recorded: after a crash it is raised again, not run again."""

    class CaughtThenSleeps(Workflow):
        async def run(self) -> str:
            message = ""
            try:
                await self.step(fatal, "plain")
            except StepError as error:
                message = str(error)
            await self.sleep(100)
            return message

    rt = await folder.open()
    first = await rt.start(CaughtThenSleeps, id="a")
    await settle(rt)
    assert await first.status() == "waiting"
    rt = await folder.reopen()
    message = await play(rt, clock, rt.run(CaughtThenSleeps, "a"))
    assert message == "step fatal was tried once and failed: Fatal: no use"
    assert CALLS == [1]


# -- timeouts ------------------------------------------------------------------------------------------------


async def hangs_at_first(late: list[str] | None) -> str:
    step = current_step()
    assert step is not None
    CALLS.append(step.attempt)
    if step.attempt == 1:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await GATE[0].wait()
                CALLS.append("late")
                return "late result"
    return "in time"


class TimesOut(Workflow):
    async def run(self) -> str:
        return await self.step(hangs_at_first, None, timeout=5, retry=Retry(1, 2, jitter=0))


async def test_a_timed_out_attempt_is_retried_and_its_late_result_ignored(
    rt: Runtime, clock: ManualClock
) -> None:
    """AC-51: the timeout is per attempt; what the first one returns late changes nothing."""
    run = await rt.start(TimesOut)
    await settle(rt)
    clock.advance(4.999)
    await settle(rt)
    assert await run.status() == "running"
    clock.advance(0.001)
    await settle(rt)
    assert await run.status() == "retrying"
    GATE[0].set()
    await settle(rt)
    assert CALLS == [1, "late"]
    assert await play(rt, clock, run) == "in time"
    (failed,) = [record for record in await run.history() if isinstance(record, AttemptFailed)]
    assert failed.error.type == "TimeoutError"


async def test_a_long_timeout_comes_at_most_a_second_late(rt: Runtime, clock: ManualClock) -> None:
    """Timeouts of a minute and more are looked at once a second."""

    class Long(Workflow):
        async def run(self) -> str:
            return await self.step(hangs_at_first, None, timeout="2m", retry=Retry(1, 0))

    run = await rt.start(Long)
    await pass_time(rt, clock, 119)
    assert CALLS == [1]
    await pass_time(rt, clock, 3)
    GATE[0].set()
    assert await play(rt, clock, run) == "in time"


@pytest.mark.parametrize("bad", [0, -1, "soon", float("inf"), timedelta(0)])
async def test_a_timeout_that_makes_no_sense_is_refused(rt: Runtime, bad: Any) -> None:
    """A step's timeout is checked when the step is asked for."""

    class Bad(Workflow):
        async def run(self) -> str:
            try:
                return await self.step(hangs_at_first, None, timeout=bad)
            except CallerError as error:
                return str(error)

    assert "timeout" in await soon((await rt.start(Bad)).result())
    assert CALLS == []


# -- kinds of bodies -----------------------------------------------------------------------------------------


def plain(n: int) -> int:
    CALLS.append(threading.current_thread() is threading.main_thread())
    return n + 1


class Callable_:
    async def __call__(self, n: int) -> int:
        return n + 1


class Methods:
    def __init__(self, base: int) -> None:
        self.base = base

    async def add(self, n: int) -> int:
        return self.base + n


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any) -> Any:
        return await function(*args)

    return wrapper


@decorated
async def wrapped(n: int) -> int:
    return n + 1


async def adds(a: int, b: int = 0) -> int:
    return a + b


class Kinds(Workflow):
    async def run(self) -> list[int]:
        return [
            await self.step(plain, 1),
            await self.step(plain, 1, thread=True),
            await self.step(Callable_(), 1, name="callable"),
            await self.step(Methods(1).add, 1),
            await self.step(Methods(2).add, 1),
            await self.step(wrapped, 1),
            await self.step(functools.partial(adds, 1), 1),
            await self.step(functools.partial(plain, 1)),
            await self.step(lambda: adds(1, 1), name="lambda of a coroutine"),
            await self.step(self.runtime.get(Counter, "k").increment, 2),
            await self.step(max, 1, 2),
        ]


async def test_all_kinds_of_functions_are_steps(rt: Runtime) -> None:
    """Async and plain functions, threads, callables, methods, wrappers, partials, lambdas, builtins."""
    assert await soon((await rt.start(Kinds)).result()) == [2, 2, 2, 2, 3, 2, 2, 2, 2, 2, 2]
    assert CALLS == [True, False, True]


async def test_an_async_body_does_not_run_in_a_thread(rt: Runtime) -> None:
    """`thread=True` is for plain functions."""

    class Wrong(Workflow):
        async def run(self) -> str:
            try:
                return str(await self.step(adds, 1, 2, thread=True))
            except CallerError as error:
                return str(error)

    assert "can't run in a thread" in await soon((await rt.start(Wrong)).result())


class Threads(Workflow):
    async def run(self) -> list[int]:
        return list(await asyncio.gather(*[self.step(plain, n, thread=True) for n in range(50)]))


async def test_many_bodies_in_threads(rt: Runtime) -> None:
    """More threads' work than there are threads waits for its turn."""
    assert await soon((await rt.start(Threads)).result()) == list(range(1, 51))


# -- values --------------------------------------------------------------------------------------------------


class Point(msgspec.Struct):
    x: int
    tags: list[str] = []


async def mutates(point: Point, numbers: list[int], anything: Any) -> int:
    point.tags.append("changed")
    numbers.clear()
    anything["k"] = 1
    return len(point.tags)


class Keeps(Workflow):
    async def run(self) -> tuple[Point, list[int], dict[str, int]]:
        point, numbers, anything = Point(1, []), [1, 2], {"j": 0}
        await self.step(mutates, point, numbers, anything, retry=Retry(0))
        await self.step(mutates, point, numbers, anything)
        return point, numbers, anything


async def test_a_body_gets_copies(rt: Runtime) -> None:
    """A body that changes its arguments changes nothing in `run()`."""
    assert await soon((await rt.start(Keeps)).result()) == (Point(1, []), [1, 2], {"j": 0})


async def test_an_argument_that_does_not_match_fails_the_step(rt: Runtime, clock: ManualClock) -> None:
    """The body's annotations hold for what it is given."""

    class Mismatch(Workflow):
        retry = Retry(0)

        async def run(self) -> str:
            try:
                await self.step(mutates, {"y": 1}, [], {})  # type: ignore[call-arg, arg-type]
            except StepError as error:
                return str(error)
            return ""

    assert "argument 1" in await play(rt, clock, await rt.start(Mismatch))


async def returns(what: str) -> Point:
    CALLS.append(what)
    odd: dict[str, Any] = {
        "text": "text",
        "object": object(),
        "huge": b"x" * (9 << 20),
        "surrogate": "\ud800",
        "dict": {"x": 3},
        "point": Point(3),
        "int": 2**70,
    }
    point: Point = odd[what]  # it often is none: what is tested
    return point


async def returns_anything(what: str) -> Any:
    return await returns(what)


class Returns(Workflow):
    async def run(self, given: tuple[str, bool]) -> str:
        what, typed = given
        try:
            value = await self.step(returns if typed else returns_anything, what)
        except StepError as error:
            return f"{error.attempts} {error.cause.message}"
        return type(value).__name__


@pytest.mark.parametrize(
    ("what", "typed", "says"),
    [
        ("text", True, "annotated"),
        ("object", True, "annotated"),
        ("object", False, "can't be stored"),
        ("huge", False, "8388608"),
        ("surrogate", False, "can't be stored"),
        ("int", False, "can't be stored"),
    ],
)
async def test_a_result_that_can_not_be_kept_fails_at_once(
    rt: Runtime, what: str, typed: bool, says: str
) -> None:
    """A result that doesn't match, can't be stored or is too large is fatal: it would only come again."""
    text = await soon((await rt.start(Returns, (what, typed))).result())
    assert text.startswith("1 ")
    assert says in text
    assert [what] == CALLS


async def test_a_live_result_is_what_replay_returns(rt: Runtime) -> None:
    """A dict that matches the annotation arrives as the annotated type, live too."""
    assert await soon((await rt.start(Returns, ("dict", True))).result()) == "Point"
    assert await soon((await rt.start(Returns, ("dict", False))).result()) == "dict"
    assert await soon((await rt.start(Returns, ("point", False))).result()) == "dict"


async def test_the_result_of_run_is_checked(rt: Runtime) -> None:
    """A run that returns what its annotation doesn't say fails."""

    class Liar(Workflow):
        async def run(self) -> int:
            return "text"  # type: ignore[return-value]

    with pytest.raises(RunFailed, match="annotation"):
        await soon((await rt.start(Liar)).result())


# -- names and places ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["", "a\nb", "x" * 257, "\ud800", 7])
async def test_step_names_are_checked(rt: Runtime, bad: Any) -> None:
    """A name has 1 to 256 printable characters."""

    class Names(Workflow):
        async def run(self) -> str:
            try:
                await self.step(adds, 1, name=bad)
            except CallerError as error:
                return str(error)
            return "taken"

    assert "name of a step" in await soon((await rt.start(Names)).result())


async def test_the_same_name_is_counted(rt: Runtime) -> None:
    """A name may be used again and again; the uses are told apart."""

    class Loop(Workflow):
        async def run(self) -> int:
            total = 0
            for n in range(5):
                total = await self.step(adds, total, n)
            return total

    run = await rt.start(Loop)
    assert await soon(run.result()) == 10
    assert [record.nth for record in await run.history() if isinstance(record, StepDone)] == [1, 2, 3, 4, 5]


OUTER: list[Workflow] = []


async def nests() -> int:
    return await OUTER[-1].step(adds, 1)


class Nests(Workflow):
    retry = Retry(0)

    async def run(self, when: str) -> str:
        OUTER[:] = [self]
        if when == "inside":
            try:
                await self.step(nests)
            except StepError as error:
                return str(error)
        return "done"


async def test_a_step_in_a_step_is_refused(rt: Runtime) -> None:
    """Steps are begun by `run()` itself."""
    assert "not inside a step" in await soon((await rt.start(Nests, "inside")).result())


async def test_a_step_after_the_run_is_refused(rt: Runtime) -> None:
    """An object of an ended run begins no steps."""
    await soon((await rt.start(Nests, "after")).result())
    with pytest.raises(CallerError, match=r"after the run|not running"):
        OUTER[-1].step(adds, 1)


async def test_a_run_in_which_nothing_is_awaited(rt: Runtime) -> None:
    """A step that is begun and never awaited ends with the run; it isn't an error."""

    class Forgets(Workflow):
        async def run(self) -> str:
            self.step(adds, 1)
            await self.step(adds, 2)
            self.step(adds, 3)
            return "done"

    assert await soon((await rt.start(Forgets)).result()) == "done"


# -- what a body raises --------------------------------------------------------------------------------------


class NoText(Exception):
    def __str__(self) -> str:
        raise ValueError("no text for you")


class TextExits(Exception):
    def __str__(self) -> str:
        raise SystemExit(4)


class TextCancels(Exception):
    def __str__(self) -> str:
        raise asyncio.CancelledError


class Own(BaseException):
    """Not even an Exception."""


def raises_plain(what: str) -> None:
    CALLS.append(what)
    if what == "exit":
        raise SystemExit(3)
    if what == "cancel":
        raise asyncio.CancelledError("by itself")
    if what == "stop":
        raise StopIteration("over")
    if what == "astop":
        raise StopAsyncIteration
    if what == "own":
        raise Own("strange")
    if what == "generator":
        raise GeneratorExit
    if what == "empty":
        raise ValueError
    if what == "huge":
        raise ValueError("x" * 10_000_000)
    if what == "surrogate":
        raise ValueError("\ud800 \x00")
    if what == "notext":
        raise NoText
    if what == "textexits":
        raise TextExits
    if what == "textcancels":
        raise TextCancels
    if what == "group":
        raise ExceptionGroup("several", [ValueError("a"), ExceptionGroup("inner", [KeyError("b")])])
    if what == "deep":
        raises_plain_deep(0)
    if what == "chain":
        try:
            raise ValueError("first")
        except ValueError as error:
            raise KeyError("second") from error


def raises_plain_deep(n: int) -> int:
    return raises_plain_deep(n + 1)


async def raises_async(what: str) -> None:
    raises_plain(what)


class Raises(Workflow):
    retry = Retry(1, 0, jitter=0)

    async def run(self, given: tuple[str, str]) -> str:
        what, how = given
        try:
            if how == "async":
                await self.step(raises_async, what)
            else:
                await self.step(raises_plain, what, thread=how == "thread")
        except StepError as error:
            return f"{error.attempts} {error.cause.type}"
        return "nothing"


@pytest.mark.parametrize("how", ["async", "plain", "thread"])
@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("exit", "SystemExit|BodyExit"),
        ("cancel", "CancelledError"),
        ("stop", "StopIteration|RuntimeError"),
        ("own", "Own"),
        ("astop", "StopAsyncIteration"),
        ("generator", "GeneratorExit|RuntimeError"),
        ("empty", "ValueError"),
        ("huge", "ValueError"),
        ("surrogate", "ValueError"),
        ("notext", "NoText"),
        ("textexits", "TextExits"),
        ("textcancels", "TextCancels"),
        ("group", "ExceptionGroup"),
        ("deep", "RecursionError"),
        ("chain", "KeyError"),
    ],
)
async def test_whatever_a_body_raises_is_a_failed_attempt(
    rt: Runtime, clock: ManualClock, what: str, name: str, how: str
) -> None:
    """No exception of a body, however odd, stops the loop, other runs or the store; it is tried again."""
    other = await rt.start(Raises, ("nothing", how))
    run = await rt.start(Raises, (what, how))
    text = await play(rt, clock, run)
    attempts, kind = text.split()
    assert attempts == "2"
    assert kind in name.split("|")
    assert CALLS.count(what) == 2
    assert await soon(other.result()) == "nothing"
    assert await rt.get(Counter, "still").increment() == 1
    failed = [record for record in await run.history() if isinstance(record, (AttemptFailed, StepFailed))]
    assert all(len(record.error.message) < 5000 and len(record.error.trace) < 10_000 for record in failed)


async def test_causes_are_kept_with_the_error(rt: Runtime, clock: ManualClock) -> None:
    """The trace in the journal shows the chain of causes and the user's own lines."""
    run = await rt.start(Raises, ("chain", "async"))
    await play(rt, clock, run)
    (failed,) = [record for record in await run.history() if isinstance(record, StepFailed)]
    assert "first" in failed.error.trace
    assert "raises_plain" in failed.error.trace


async def test_a_body_whose_task_is_cancelled_from_outside_is_tried_again(
    rt: Runtime, clock: ManualClock
) -> None:
    """A cancellation that isn't the engine's is a failed attempt."""

    async def cancels_itself() -> int:
        step = current_step()
        assert step is not None
        if step.attempt == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        return step.attempt

    class Cancelled(Workflow):
        retry = Retry(1, 0)

        async def run(self) -> int:
            return await self.step(cancels_itself)

    assert await play(rt, clock, await rt.start(Cancelled)) == 2


# -- many ----------------------------------------------------------------------------------------------------


class Wide(Workflow):
    async def run(self, n: int) -> int:
        return sum(await asyncio.gather(*[self.step(adds, k, 1) for k in range(n)]))


async def test_thousands_of_steps_side_by_side(folder: Folder, clock: ManualClock) -> None:
    """A run with 3 000 parallel steps completes, also from a journal that holds some of them."""
    rt = await folder.open()
    run = await rt.start(Wide, 3000, id="w")
    await until(lambda: len(CALLS) >= 0)
    await settle(rt)
    rt = await folder.reopen()
    assert await play(rt, clock, rt.run(Wide, "w")) == 3000 * 2999 // 2 + 3000
    del run


class Deep(Workflow):
    async def run(self, n: int) -> int:
        return await self.down(n)

    async def down(self, n: int) -> int:
        return await self.step(adds, n) if n == 0 else 1 + await self.down(n - 1)


async def test_deep_recursion_in_run(rt: Runtime) -> None:
    """A few hundred nested coroutines work; too deep a recursion fails the run and nothing else."""
    assert await soon((await rt.start(Deep, 150)).result()) == 150
    with pytest.raises(RunFailed, match="RecursionError"):
        await soon((await rt.start(Deep, 100_000)).result())
    assert await rt.get(Counter, "still").increment() == 1
    gc.collect()


class LongLoop(Workflow):
    async def run(self, n: int) -> int:
        total = 0
        for _ in range(n):
            total = await self.step(adds, total, 1)
        return total


async def test_a_long_sequence_of_plain_steps_needs_no_stack(rt: Runtime) -> None:
    """Each step goes on from the one before without growing the stack."""

    class PlainLoop(Workflow):
        async def run(self, n: int) -> int:
            total = 0
            for _ in range(n):
                total = await self.step(plain, total)
            return total

    assert await soon((await rt.start(PlainLoop, 400)).result()) == 400


async def says_when(seconds: float) -> int:
    """Fail once, as a server does that says when to ask again."""
    step = current_step()
    assert step is not None
    if step.attempt == 1:
        raise RetryAfter("busy", seconds)
    return step.attempt


class SaysWhen(Workflow):
    async def run(self, seconds: float) -> int:
        return await self.step(says_when, seconds, retry=Retry(1, 10, cap=60, jitter=0))


@pytest.mark.parametrize(("said", "waited"), [(30, 30), (3, 10), (3600, 60)])
async def test_retry_after(rt: Runtime, clock: ManualClock, said: int, waited: int) -> None:
    """The next attempt comes as late as the server says, not earlier than the policy, nor beyond its cap."""
    run = await rt.start(SaysWhen, float(said))
    assert await play(rt, clock, run) == 2
    (failed,) = [record for record in await run.history() if isinstance(record, AttemptFailed)]
    assert failed.next_ms - failed.at_ms == waited * 1000
