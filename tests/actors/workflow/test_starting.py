"""Starting runs: ids, conflicts, inputs, from a turn, from a step; what a handle tells."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import msgspec
import pytest

from holdfast import Actor, Counter, Retry, Runtime, StepError, Workflow, shared
from holdfast.actors.errors import InvalidInput, InvalidRunId, RunExists, RunFailed, RunNotFound
from holdfast.actors.handle import Run
from holdfast.actors.workflow.journal import Finished, Started, StepDone
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import InvalidActor, UnknownActorType
from holdfast.storage import layout
from holdfast.storage.errors import CallerError, InvalidValue
from tests.actors.workflow.support import Folder, play, rows, settle, soon, until, until_status


class Order(msgspec.Struct):
    sku: str
    amount: int


async def reserve(order: Order) -> str:
    return f"{order.amount} of {order.sku}"


class Buy(Workflow):
    async def run(self, order: Order) -> str:
        return await self.step(reserve, order)


class Nap(Workflow):
    async def run(self, text: str) -> str:
        await self.sleep("1h")
        return text


class Bare(Workflow):
    async def run(self) -> int:
        return 7


class Shop(Actor):
    orders: int = 0

    async def order(self, id: str, *, fail: bool = False) -> str:
        self.orders += 1
        run = await self.runtime.start(Nap, "from a turn", id=id)  # type: ignore[attr-defined]
        if fail:
            raise KeyError("the shop burnt down")
        run_id: str = run.id
        return run_id

    async def order_many(self, ids: list[str], *, fail: bool = False) -> int:
        self.orders += len(ids)
        runs = await self.runtime.start_many(Nap, [(id_, "many") for id_ in ids])  # type: ignore[attr-defined]
        if fail:
            raise KeyError("the shop burnt down")
        return len(runs)

    async def order_twice(self, id: str, on_conflict: str) -> str:
        await self.runtime.start(Nap, "first", id=id)  # type: ignore[attr-defined]
        again = await self.runtime.start(Nap, "second", id=id, on_conflict=on_conflict)  # type: ignore[attr-defined]
        run_id: str = again.id
        return run_id

    async def slow_order(self, id: str) -> None:
        await self.runtime.start(Nap, "slow", id=id)  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        await GATES[id].wait()

    async def try_inner(self, id: str) -> int:
        try:
            await self.runtime.get(Shop, self.key).order(id, fail=True)
        except KeyError:
            pass
        return self.orders

    @shared
    async def peek(self) -> None:
        await self.runtime.start(Bare)  # type: ignore[attr-defined]


GATES: dict[str, asyncio.Event] = {}


# -- handles -------------------------------------------------------------------------------------------------


async def test_a_started_run_gives_its_result(rt: Runtime) -> None:
    """`start` returns a handle whose result is what `run()` returned."""
    run = await rt.start(Buy, Order("pear", 2), id="a")
    assert await soon(run.result()) == "2 of pear"
    assert await run.status() == "complete"


async def test_result_may_be_asked_often_and_by_many(rt: Runtime) -> None:
    """Any number of handles and waiters get the result, also long after the end."""
    run = await rt.start(Buy, Order("pear", 2), id="a")
    assert await soon(asyncio.gather(*[rt.run(Buy, "a").result() for _ in range(20)])) == ["2 of pear"] * 20
    assert await run.result() == "2 of pear"


async def test_a_workflow_without_input_is_started_without(rt: Runtime) -> None:
    """`run(self)` takes nothing; giving something is refused."""
    assert await soon((await rt.start(Bare)).result()) == 7
    with pytest.raises(InvalidInput, match="Bare"):
        await rt.start(Bare, 3)  # type: ignore[arg-type]


class Defaulted(Workflow):
    async def run(self, n: int = 5) -> int:
        return n


async def test_an_input_with_a_default_may_be_left_out(rt: Runtime) -> None:
    """`run(self, n=5)` started without input gets its default, and still does on replay."""
    assert await soon((await rt.start(Defaulted)).result()) == 5
    assert await soon((await rt.start(Defaulted, 6)).result()) == 6


async def test_info_tells_what_is_known(rt: Runtime, clock: ManualClock) -> None:
    """`info` has workflow, id, status, times and correlation id."""
    run = await rt.start(Nap, "x", id=("eu", 7), correlation_id="c1")
    await settle(rt)
    info = await run.info()
    assert (info.workflow, info.id, info.status, info.correlation_id) == ("Nap", "eu/7", "waiting", "c1")
    assert info.created_at.timestamp() * 1000 == clock.now_ms()
    assert info.error is None


async def test_history_has_all_records_in_order(rt: Runtime) -> None:
    """`history` is the journal: start, steps, end."""
    run = await rt.start(Buy, Order("pear", 2), id="a", ref=("campaign", "1"), tenant="t", tags={"k": "v"})
    await soon(run.result())
    started, done, finished = await run.history()
    assert isinstance(started, Started)
    assert (started.ref, started.tenant, started.tags) == (("campaign", "1"), "t", {"k": "v"})
    assert isinstance(done, StepDone)
    assert (done.name, done.nth, done.attempts) == ("reserve", 1, 1)
    assert isinstance(finished, Finished)


async def test_a_run_that_is_not_there_is_not_found(rt: Runtime) -> None:
    """Every question about an unknown run raises `RunNotFound`, and makes nothing."""
    run = rt.run(Nap, "nobody")
    for ask in (run.result, run.status, run.info, run.history, run.dead_letter, run.redrive, run.terminate):
        with pytest.raises(RunNotFound, match="Nap/nobody"):
            await soon(ask())
    assert rt.keys(Nap) == []


async def test_something_else_than_a_workflow_is_refused(rt: Runtime) -> None:
    """Only workflow classes can be started."""
    with pytest.raises(CallerError, match="Counter is an actor"):
        await rt.start(Counter, 1)  # type: ignore[arg-type]
    with pytest.raises(UnknownActorType):
        await rt.start(int, 1)  # type: ignore[arg-type]
    with pytest.raises(UnknownActorType):
        await rt.start("Nap", 1)  # type: ignore[call-overload]


async def test_runs_are_listed_by_status_and_age(rt: Runtime, clock: ManualClock) -> None:
    """`runs` filters by workflow and status, the oldest first."""
    for n in range(5):
        await rt.start(Nap, "x", id=n)
        await settle(rt)
        clock.advance(1)
    done = await rt.start(Bare)
    await soon(done.result())
    assert [info.id for info in rt.runs(Nap)] == ["0", "1", "2", "3", "4"]
    assert [info.id for info in rt.runs(Nap, status="waiting", limit=2, reverse=True)] == ["4", "3"]
    assert rt.runs(Nap, status="failed") == []
    assert {info.workflow for info in rt.runs()} >= {"Nap", "Bare"}


# -- conflicts -----------------------------------------------------------------------------------------------


async def test_a_used_id_is_rejected_and_the_first_run_unharmed(rt: Runtime, clock: ManualClock) -> None:
    """AC-57: a used id raises `RunExists`; the run that is there goes on."""
    first = await rt.start(Nap, "first", id="a")
    with pytest.raises(RunExists, match="Nap/a"):
        await rt.start(Nap, "second", id="a")
    assert await play(rt, clock, first) == "first"
    with pytest.raises(RunExists):  # an ended run keeps its id
        await rt.start(Nap, "third", id="a")


async def test_of_many_starts_of_one_id_one_wins(rt: Runtime) -> None:
    """Starts of one id side by side: exactly one run."""
    starts = [rt.start(Nap, str(n), id="a") for n in range(20)]
    results = await asyncio.gather(*starts, return_exceptions=True)
    assert sum(isinstance(one, RunExists) for one in results) == 19


async def test_join_gives_the_run_that_is_there(rt: Runtime, clock: ManualClock) -> None:
    """`on_conflict="join"`: the same run, whatever the input."""
    await rt.start(Nap, "first", id="a")
    joined = await rt.start(Nap, "second", id="a", on_conflict="join")
    assert await play(rt, clock, joined) == "first"


async def test_replace_erases_the_run_that_is_there(rt: Runtime, clock: ManualClock) -> None:
    """`on_conflict="replace"`: nothing of the former run is left, and its sleep wakes nobody."""
    await rt.start(Nap, "first", id="a")
    await settle(rt)
    clock.advance(600)
    second = await rt.start(Nap, "second", id="a", on_conflict="replace")
    await settle(rt)
    clock.advance(3001)
    await settle(rt)
    assert await second.status() == "waiting"
    assert len(await second.history()) == 1
    assert await play(rt, clock, second) == "second"


async def test_replace_starts_where_nothing_is(rt: Runtime, clock: ManualClock) -> None:
    """`on_conflict="replace"` on a fresh id is a plain start."""
    assert await play(rt, clock, await rt.start(Nap, "x", id="a", on_conflict="replace")) == "x"


async def test_an_unknown_way_of_conflict_is_refused(rt: Runtime) -> None:
    """A misspelt `on_conflict` is refused before anything is started."""
    with pytest.raises(CallerError, match="on_conflict"):
        await rt.start(Nap, "x", id="a", on_conflict="ignore")  # type: ignore[call-overload]
    assert rt.keys(Nap) == []


# -- ids, inputs, labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "a b",
        "a\n",
        "x" * 201,
        "\ud800",
        (),
        ("a", ""),
        ("a", 1.5),
        1.5,
        True,
        b"a",
        None,
        ("a", ("b",)),
        "\x00",
    ],
)
async def test_an_id_that_breaks_the_rules_is_refused(rt: Runtime, bad: Any) -> None:
    """Ids are printable texts without blanks, whole numbers, or tuples of them; at most 200 characters."""
    given: list[Any] = [bad]  # None asks `start` for a new id
    if given != [None]:
        with pytest.raises(InvalidRunId):
            await rt.start(Nap, "x", id=bad)
    with pytest.raises(InvalidRunId):
        rt.run(Nap, bad)
    with pytest.raises(InvalidRunId):
        await rt.start_many(Nap, [("good", "x"), (bad, "x")])
    assert rt.keys(Nap) == []


@pytest.mark.parametrize(
    "good", ["a", "x" * 200, 0, -5, 1 << 62, ("eu", 7), "größe", uuid.uuid4(), ("eu", uuid.uuid4())]
)
async def test_an_id_that_keeps_the_rules_is_kept(rt: Runtime, good: Any) -> None:
    """An id comes back as it was given; a UUID as its text."""
    run = await rt.start(Nap, "x", id=good)
    shown = (
        tuple(str(p) if isinstance(p, uuid.UUID) else p for p in good) if isinstance(good, tuple) else good
    )
    assert run.key == (str(shown) if isinstance(shown, uuid.UUID) else shown)
    assert await rt.run(Nap, good).status() in ("running", "waiting")


@pytest.mark.parametrize(
    "bad", ["text", None, {"sku": "x"}, {"sku": 1, "amount": 1}, object(), {"sku": "\ud800", "amount": 1}]
)
async def test_an_input_that_does_not_match_writes_nothing(rt: Runtime, bad: Any) -> None:
    """An input that `run()` could not take is refused at the start, and nothing is written."""
    with pytest.raises(InvalidInput, match="Buy"):
        await rt.start(Buy, bad, id="a")
    assert rows(rt, layout.JOURNAL) == []
    assert await soon((await rt.start(Buy, {"sku": "pear", "amount": 1}, id="a")).result()) == "1 of pear"  # type: ignore[misc]


async def test_an_input_that_is_too_large_is_refused(rt: Runtime) -> None:
    """More than 8 MiB of input belong elsewhere."""
    with pytest.raises(InvalidInput, match="8388608"):
        await rt.start(Nap, "x" * (9 << 20))


@pytest.mark.parametrize(
    "options",
    [
        {"ref": "campaign"},
        {"ref": ("a", "b", "c")},
        {"ref": ("a", 1)},
        {"tenant": 7},
        {"tags": {"a": 1}},
        {"tags": {1: "a"}},
        {"tags": {"a": "\ud800"}},
        {"tenant": "\ud800"},
        {"correlation_id": 5},
        {"correlation_id": "\ud800"},
    ],
)
async def test_labels_of_the_wrong_type_are_refused(rt: Runtime, options: dict[str, Any]) -> None:
    """What couldn't be read again with the journal isn't written."""
    with pytest.raises((CallerError, InvalidValue)):
        await rt.start(Nap, "x", id="a", **options)
    assert rt.keys(Nap) == []


async def test_a_batch_leaves_out_what_is_there(rt: Runtime, clock: ManualClock) -> None:
    """AC-57: `start_many` of a and b with a in use starts and returns b only."""
    first = await rt.start(Nap, "first", id="a")
    started = await rt.start_many(Nap, [("a", "again"), ("b", "new"), ("b", "twice")])
    assert [run.id for run in started] == ["b"]
    assert await play(rt, clock, first) == "first"
    assert await play(rt, clock, started[0]) == "new"


async def test_a_batch_is_checked_before_anything_starts(rt: Runtime) -> None:
    """One bad input in a batch: nothing is started."""
    with pytest.raises(InvalidInput):
        await rt.start_many(Nap, [("a", "good"), ("b", 5)])  # type: ignore[misc]
    assert rt.keys(Nap) == []
    assert await rt.start_many(Nap, []) == []


async def test_a_batch_takes_few_commits(rt: Runtime) -> None:
    """A thousand starts lie in a handful of commits."""
    before = rt.store.group_commit.commits
    runs = await rt.start_many(Nap, [(n, "x") for n in range(1000)])
    assert len(runs) == 1000
    assert rt.store.group_commit.commits - before < 20


# -- from a turn ---------------------------------------------------------------------------------------------


async def test_a_start_in_a_turn_commits_with_it(rt: Runtime, clock: ManualClock) -> None:
    """A run started by an actor is there when the call returned, and goes on."""
    assert await rt.get(Shop, "s").order("a") == "a"
    assert await play(rt, clock, rt.run(Nap, "a")) == "from a turn"


async def test_a_start_in_a_turn_is_rolled_back_with_it(rt: Runtime) -> None:
    """The turn raises: there is no run, its place is free, its id may be used."""
    with pytest.raises(KeyError):
        await rt.get(Shop, "s").order("a", fail=True)
    with pytest.raises(RunNotFound):
        await rt.run(Nap, "a").status()
    assert rt.engine.places.running == 0
    assert rows(rt, layout.JOURNAL) == []
    await rt.start(Nap, "x", id="a")


async def test_a_batch_in_a_turn_is_rolled_back_with_it(rt: Runtime) -> None:
    """`start_many` in a turn belongs to its commit as well."""
    with pytest.raises(KeyError):
        await rt.get(Shop, "s").order_many(["a", "b"], fail=True)
    assert rt.keys(Nap) == []
    assert rt.engine.places.running == 0
    assert await rt.get(Shop, "s").order_many(["a", "b", "a"]) == 2
    assert len(rt.keys(Nap)) == 2


async def test_a_turn_that_starts_an_id_twice(rt: Runtime, clock: ManualClock) -> None:
    """Within a turn the first start counts already."""
    with pytest.raises(RunExists):
        await rt.get(Shop, "s").order_twice("a", "reject")
    assert await rt.get(Shop, "s").order_twice("b", "join") == "b"
    assert await play(rt, clock, rt.run(Nap, "b")) == "first"


async def test_an_id_that_a_turn_is_starting_is_taken(rt: Runtime, clock: ManualClock) -> None:
    """While a turn that started a run goes on, another start of its id finds it, and makes no second one."""
    GATES["a"] = asyncio.Event()
    call = asyncio.create_task(rt.get(Shop, "s").slow_order("a"))
    await settle(rt)
    rejected = asyncio.create_task(rt.start(Nap, "other", id="a"))
    joined = asyncio.create_task(rt.start(Nap, "third", id="a", on_conflict="join"))
    await settle(rt)
    GATES["a"].set()
    await call
    with pytest.raises(RunExists):
        await soon(rejected)
    assert (await soon(joined)).id == "a"
    assert await play(rt, clock, rt.run(Nap, "a")) == "slow"
    assert rt.engine.places.running == 0


async def test_a_start_that_waited_for_a_turn_that_fails(rt: Runtime, clock: ManualClock) -> None:
    """The turn that was starting the id is cancelled: the other start gets the id."""
    GATES["a"] = asyncio.Event()
    call = asyncio.create_task(rt.get(Shop, "s").slow_order("a"))
    await settle(rt)
    other = asyncio.create_task(rt.start(Nap, "other", id="a"))
    await settle(rt)
    call.cancel()
    assert await play(rt, clock, await soon(other)) == "other"
    assert rt.engine.places.running == 0


async def test_a_start_in_a_call_that_joined_and_failed(rt: Runtime) -> None:
    """A call that joined its own actor's turn, started a run and raised: the run is gone, its place free."""
    assert await rt.get(Shop, "s").try_inner("a") == 0
    with pytest.raises(RunNotFound):
        await rt.run(Nap, "a").status()
    assert rt.engine.places.running == 0
    assert await (await rt.start(Nap, "x", id="a")).status() in ("running", "waiting")


async def test_a_shared_method_starts_nothing(rt: Runtime) -> None:
    """A @shared method can't write, so it can't start runs."""
    with pytest.raises(CallerError, match="@shared"):
        await rt.get(Shop, "s").peek()


# -- from a step ---------------------------------------------------------------------------------------------


class Parent(Workflow):
    retry = Retry(3, 0, jitter=0)

    async def run(self, how: str) -> list[str]:
        return await self.step(spawn, how, name="a step with blanks")


FAILURES: dict[str, int] = {}
RUNTIME: list[Runtime] = []


async def spawn(how: str) -> list[str]:
    rt = RUNTIME[-1]
    runs: list[Run[str]] = []
    if how == "one":
        runs = [await rt.start(Nap, "child")]
    elif how == "two":
        runs = [await rt.start(Nap, "child 1"), await rt.start(Nap, "child 2")]
    elif how == "named":
        runs = [await rt.start(Nap, "child", id="named")]
    elif how == "replace":
        runs = [await rt.start(Nap, "child", id="replaced", on_conflict="replace")]
    elif how == "many":
        runs = await rt.start_many(Nap, [("m1", "x"), ("m2", "x")])
    if FAILURES.get(how, 0) > 0:
        FAILURES[how] -= 1
        raise OSError("again")
    return [run.id for run in runs]


@pytest.mark.parametrize(
    ("how", "count"), [("one", 1), ("two", 2), ("named", 1), ("replace", 1), ("many", 2)]
)
async def test_a_start_in_a_step_happens_once(rt: Runtime, clock: ManualClock, how: str, count: int) -> None:
    """However often the step is tried, it starts its runs once and gets the same handles."""
    RUNTIME[:] = [rt]
    FAILURES[how] = 2
    ids = await play(rt, clock, await rt.start(Parent, how))
    assert sorted(str(key) for key in rt.keys(Nap)) == sorted(ids)
    assert len(ids) == count
    for id_ in ids:
        assert len([r for r in await rt.run(Nap, id_).history() if isinstance(r, Started)]) == 1
    assert rows(rt, layout.REPLY) == []


async def test_a_start_in_a_step_happens_once_over_a_crash(folder: Folder, clock: ManualClock) -> None:
    """The step is tried again after a crash: the run that it started is there, and is the one it gets."""
    rt = await folder.open()
    RUNTIME[:] = [rt]
    FAILURES["two"] = 1
    await rt.start(Parent, "two", id="p")
    await until(lambda: FAILURES["two"] == 0)
    rt = await folder.reopen()
    RUNTIME[:] = [rt]
    ids = await play(rt, clock, rt.run(Parent, "p"))
    assert sorted(str(key) for key in rt.keys(Nap)) == sorted(ids)
    assert len(ids) == 2


class StartsInRun(Workflow):
    async def run(self, how: str) -> str:
        try:
            if how == "many":
                await self.runtime.start_many(Bare, [])  # type: ignore[arg-type]
            else:
                await self.runtime.start(Bare)
        except CallerError as error:
            return str(error)
        return "started"


@pytest.mark.parametrize("how", ["one", "many"])
async def test_run_itself_starts_nothing(rt: Runtime, how: str) -> None:
    """`run()` is replayed, so a start belongs in a step; the error says so."""
    assert "in a step" in await soon((await rt.start(StartsInRun, how)).result())


class LateStart(Workflow):
    async def run(self) -> str:
        try:
            return await self.step(starts_too_late, timeout=1.0, retry=Retry(0))
        except StepError as error:
            return error.cause.type


async def starts_too_late() -> str:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        LATE.append(await asyncio.gather(RUNTIME[-1].start(Bare, id="late"), return_exceptions=True))
        raise
    return ""


LATE: list[Any] = []


async def test_an_attempt_that_is_over_starts_nothing(rt: Runtime, clock: ManualClock) -> None:
    """A body that goes on after its timeout is refused when it starts a run."""
    RUNTIME[:] = [rt]
    LATE.clear()
    assert await play(rt, clock, await rt.start(LateStart)) == "TimeoutError"
    await settle(rt)
    assert type(LATE[0][0]).__name__ == "StepOver"
    assert rt.keys(Bare) == []


# -- classes -------------------------------------------------------------------------------------------------


def refuse(rt: Runtime, cls: type, match: str) -> None:
    with pytest.raises(InvalidActor, match=match):
        rt.workflow_type(cls)


async def test_signatures_that_break_the_rules_are_refused(rt: Runtime) -> None:
    """`run()` is async and takes self and at most one input."""

    class NoRun(Workflow):
        pass

    class PlainRun(Workflow):
        def run(self) -> int:
            return 1

    class TwoInputs(Workflow):
        async def run(self, a: int, b: int) -> int:
            return a + b

    class StarInput(Workflow):
        async def run(self, *a: int) -> int:
            return 1

    class KeywordInput(Workflow):
        async def run(self, *, a: int = 1) -> int:
            return a

    class Generates(Workflow):
        async def run(self):
            yield 1

    class Static(Workflow):
        @staticmethod
        async def run() -> int:
            return 1

    class Unstorable(Workflow):
        async def run(self, a: int | Order | Bare) -> int:
            return 1

    for cls in (NoRun, PlainRun, TwoInputs, StarInput, KeywordInput, Generates, Static, Unstorable):
        refuse(rt, cls, cls.__name__)


async def test_declared_fields_are_refused(rt: Runtime) -> None:
    """A workflow's state is its journal: annotated fields are refused with a hint."""

    class Declares(Workflow):
        total: int = 0

        async def run(self) -> int:
            return self.total

    refuse(rt, Declares, "total")


async def test_options_that_break_the_rules_are_refused(rt: Runtime) -> None:
    """Indexes are the engine's; limits are positive; retry is a Retry."""

    class OwnIndex(Workflow):
        indexes = (("head.created_ms",),)

        async def run(self) -> int:
            return 1

    class NoPlace(Workflow):
        max_running = 0

        async def run(self) -> int:
            return 1

    class OddRetry(Workflow):
        retry = 3  # type: ignore[assignment]

        async def run(self) -> int:
            return 1

    class OddTimeout(Workflow):
        step_timeout = "soon"

        async def run(self) -> int:
            return 1

    class NoTimeAtAll(Workflow):
        step_timeout = 0

        async def run(self) -> int:
            return 1

    for cls, word in ((OwnIndex, "indexes"), (NoPlace, "max_running"), (OddRetry, "retry")):
        refuse(rt, cls, word)
    for odd in (OddTimeout, NoTimeAtAll):
        with pytest.raises((InvalidActor, CallerError), match="step_timeout"):
            rt.workflow_type(odd)


async def test_max_running_of_a_runtime_is_checked(folder: Folder) -> None:
    """A runtime without places would never run anything."""
    with pytest.raises(CallerError, match="max_running"):
        Runtime(folder.path, max_running=0)


async def test_a_workflow_defined_in_a_function(rt: Runtime, clock: ManualClock) -> None:
    """A local class with a local function as its step works."""

    async def local_step(n: int) -> int:
        return n + 1

    class Local(Workflow):
        async def run(self, n: int) -> int:
            await self.sleep(1)
            return await self.step(local_step, n) + await self.step(lambda: 10)

    assert await play(rt, clock, await rt.start(Local, 1)) == 12


class Base(Workflow):
    async def run(self, n: int) -> int:
        return await self.work(n)

    async def work(self, n: int) -> int:
        return n


class Derived(Base):
    async def work(self, n: int) -> int:
        return await self.step(double, n)


async def double(n: int) -> int:
    return n * 2


async def test_a_subclass_is_a_workflow_of_its_own(rt: Runtime) -> None:
    """Runs of a class and of its subclass are apart, also with the same id."""
    base, derived = await rt.start(Base, 4, id="x"), await rt.start(Derived, 4, id="x")
    assert (await soon(base.result()), await soon(derived.result())) == (4, 8)
    assert [info.workflow for info in rt.runs(Derived)] == ["Derived"]


async def test_a_run_is_no_actor_to_call(rt: Runtime) -> None:
    """Methods of a run can't be called through `get`."""
    await rt.start(Derived, 4, id="x")
    with pytest.raises(Exception, match="work"):
        await rt.get(Derived, "x").work(1)


async def test_terminate_ends_a_run_for_good(rt: Runtime, clock: ManualClock) -> None:
    """A terminated run has no alarm, no further effect, and its result says why."""
    run = await rt.start(Nap, "x", id="a")
    await settle(rt)
    waiter = asyncio.ensure_future(run.result())
    await run.terminate("enough")
    with pytest.raises(RunFailed, match="enough"):
        await soon(waiter)
    clock.advance(4000)
    await settle(rt)
    assert await until_status(run, "terminated") == "terminated"
    with pytest.raises(CallerError, match="terminated already"):
        await run.terminate()
