"""Random programs of runs that are talked to, and what they mean without any durability.

A program is data.  `Program` interprets it against what a workflow offers (`self.step`, `self.wait` ...); it
is mixed into a real `Workflow`, and used by `PlainRun`, which offers the same on a bare event loop: no
journal, no replay, no disk.  So the plain run is the model, and short enough to be believed.

No two ways through a program take the same time: a leaf takes a power of five of `UNIT_MS`, and what comes
from outside comes at a moment that is off by a power of three of a millisecond.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from hypothesis import strategies as st

from holdfast import (
    Actor,
    Retry,
    Runtime,
    StepError,
    Workflow,
    current_step,
    heartbeat,
    last_heartbeat,
    update,
)
from holdfast.actors.errors import ErrorRecord
from holdfast.actors.workflow.continuing import ContinueAsNew

Node = list[Any]
UNIT_MS = 10_000
LEAVES = 7
NAMES = ("red", "blue")
DEADLINE_MS = 900 * UNIT_MS + 4_999


def leaf_ms(leaf: int) -> int:
    """How long a leaf takes."""
    return int(UNIT_MS * 5**leaf)


class World:
    """What crashes leave alone: jobs elsewhere, which end at a fixed time, and a note of what was begun."""

    def __init__(self) -> None:
        self.ends_ms: dict[tuple[Any, ...], int] = {}
        self.begun: list[tuple[Any, ...]] = []
        self.undone: list[str] = []

    async def job(self, key: tuple[Any, ...], took_ms: int, now_ms: int) -> None:
        self.begun.append(key)
        end = self.ends_ms.setdefault(key, now_ms + took_ms)
        await asyncio.sleep(max(0, end - now_ms) / 1000)


class Stage:
    """The story that is played now."""

    def __init__(self) -> None:
        self.world = World()
        # Bodies take no time, so that none is in progress when the run is paused.
        self.quick = False
        self.clock: Callable[[], int] = lambda: 0
        self.runtime: Runtime | None = None
        # What was sent to the collector, in the plain story.
        self.notes: list[int] = []


Place = Stage()


# Name, use and attempt of the step that runs, in the plain story.
STEP: ContextVar[tuple[str, str, int, int]] = ContextVar("plain step")


def which() -> tuple[str, str, int, int]:
    """Run, name, use and attempt of the step that runs."""
    step = current_step()
    if step is None:
        return STEP.get()
    return re.sub(r"\.\d+", "", step.run), step.name, step.nth, step.attempt  # without the generation


async def body(name: str, took_ms: int, fails: int) -> str:
    """A step: fails so often, then tells its name."""
    key = which()
    await Place.world.job(key, took_ms, Place.clock())
    if key[3] <= fails:
        raise OSError(f"{name} attempt {key[3]}")
    return name


async def beat(took_ms: int) -> str:
    """A step in three parts: it tells after each where it is, and goes on there after a crash."""
    key = which()
    durable = current_step() is not None
    begin = (last_heartbeat(int) if durable else None) or 0
    for part in range(begin, 3):
        await Place.world.job((*key, part), took_ms, Place.clock())
        if durable:
            heartbeat(part + 1)
    return "beaten"


async def take_back(name: str) -> None:
    """An undo; that of leaf 3 fails for good."""
    key = which()
    await Place.world.job(key, 0 if Place.quick else leaf_ms(1), Place.clock())
    Place.world.undone.append(f"{key[0]} {name} {key[3]}")
    if name == "s3":
        raise OSError("can't be undone")


class Teller(Actor):
    """Sends a note to the collector in its turn, and may raise behind it."""

    told: int = 0

    async def tell(self, n: int, fails: bool) -> int:
        if Place.runtime is not None:
            await Place.runtime.run(TakesNotes, "collector").send("note", n)
        self.told += 1
        if fails:
            raise ValueError("changed its mind")
        return self.told


class TakesNotes(Workflow):
    """Takes notes until it is told to stop."""

    async def run(self) -> list[Any]:
        notes: list[Any] = []
        while (event := await self.wait("note", "stop")).name == "note":
            notes.append(event.payload)
        return notes


class Program:
    """Interprets a program; `self` is a run, durable or plain."""

    def __init__(self) -> None:
        self.total = 0
        self.trace: list[str] = []

    async def run(self, program: Node) -> Any:
        me: Any = self
        if program[0] == "again":
            self.trace.append(str(await self.node(program[1])))
            me.continue_as_new(program[2])
        result = await self.node(program)
        trace = self.trace if me.id == "main" else []
        return [result, round(me.now().timestamp() * 1000), trace, self.total]

    @update
    async def add(self, n: int) -> int:
        self.total += n
        return self.total

    @update
    async def add_later(self, n: int) -> int:
        me: Any = self
        await me.step(body, f"u{n}", 0 if Place.quick else leaf_ms(1), 0, name=f"u{n}")
        self.total += n
        return self.total

    async def node(self, node: Node) -> Any:
        kind, *rest = node
        do: Callable[..., Awaitable[Any]] = getattr(self, f"do_{kind}")
        result = await do(self, *rest)
        self.trace.append(f"{kind} {result}")
        return result

    # -- leaves

    async def do_step(self, me: Any, leaf: int, fails: int, undo: bool, quick: bool) -> Any:
        await self.before(me, leaf, quick)
        return await self.ask(me, leaf, fails, undo, quick)

    async def before(self, me: Any, leaf: int, quick: bool) -> None:
        if quick:  # so that nothing else comes at the same time
            await me.sleep(leaf_ms(leaf) / 1000)

    def ask(self, me: Any, leaf: int, fails: int, undo: bool, quick: bool) -> Any:
        retry = Retry(1, 2 * leaf_ms(leaf) / 1000, "constant", jitter=0)
        took_ms = 0 if quick else leaf_ms(leaf)
        undoing = take_back if undo else None
        return me.step(body, f"s{leaf}", took_ms, fails, name=f"s{leaf}", retry=retry, undo=undoing)

    async def do_optional(self, me: Any, leaf: int, quick: bool) -> Any:
        await self.before(me, leaf, quick)
        return await self.ask(me, leaf, 5, False, quick).optional("nothing")

    async def do_outcome(self, me: Any, leaf: int, fails: int, quick: bool) -> Any:
        await self.before(me, leaf, quick)
        return (await self.ask(me, leaf, fails, True, quick).outcome()).value

    async def do_beat(self, me: Any, leaf: int, quick: bool) -> Any:
        await self.before(me, leaf, quick)
        return await me.step(beat, 0 if quick else leaf_ms(leaf), name=f"b{leaf}")

    async def do_sleep(self, me: Any, leaf: int) -> str:
        await me.sleep(leaf_ms(leaf) / 1000)
        return f"slept {leaf}"

    async def do_wait(self, me: Any, names: list[str], leaf: int | None) -> Any:
        try:
            event = await me.wait(*names, timeout=None if leaf is None else leaf_ms(leaf) / 1000)
        except TimeoutError:
            return f"timeout {leaf}"
        return [event.name, event.payload, event.user]

    async def do_until(self, me: Any, least: int, leaf: int) -> Any:
        try:
            await me.until(lambda: self.total >= least, timeout=leaf_ms(leaf) / 1000)
        except TimeoutError:
            return f"timeout {leaf}"
        return "held"

    async def do_say(self, me: Any, n: int) -> str:
        me.emit(f"e{n}", n)
        me.set_status(f"state {n}")
        me.data["last"] = n
        me.data[f"d{n}"] = [n]
        me.tags["tag"] = f"t{n}"
        return f"said {n}"

    async def do_send(self, me: Any, leaf: int) -> Any:
        await me.sleep(leaf_ms(leaf) / 1000)  # so that nothing else comes at the same time
        await me.send(TakesNotes, "collector", "note", leaf, event_id=f"note {leaf}" if leaf % 2 else None)
        return "sent"

    async def do_tell(self, me: Any, leaf: int, fails: bool) -> Any:
        await me.sleep(leaf_ms(leaf) / 1000)
        try:
            return await me.tell(leaf, fails)
        except StepError as error:
            return type(error).__name__

    # -- other runs

    async def do_child(self, me: Any, leaf: int, program: Node, detached: bool) -> Any:
        await me.sleep(leaf_ms(leaf) / 1000)
        return await me.child(type(self), program, detached=detached)

    # -- one after the other, side by side

    async def do_seq(self, me: Any, *nodes: Node) -> list[Any]:
        return [await self.node(node) for node in nodes]

    async def do_branch(self, me: Any, first: Node, yes: Node, no: Node) -> Any:
        return await self.node(yes if len(str(await self.node(first))) % 2 else no)

    async def do_try(self, me: Any, node: Node, otherwise: Node) -> Any:
        try:
            return await self.node(node)
        except StepError as error:
            return [f"caught {type(error).__name__}", await self.node(otherwise)]

    async def do_finally(self, me: Any, node: Node, clean_up: Node) -> Any:
        try:
            return await self.node(node)
        except asyncio.CancelledError:
            self.trace.append(str(await self.node(clean_up)))
            raise

    async def do_gather(self, me: Any, *nodes: Node) -> list[Any]:
        results = await asyncio.gather(*[self.node(node) for node in nodes], return_exceptions=True)
        return [shown(result) for result in results]

    async def do_first(self, me: Any, *nodes: Node) -> list[Any]:
        tasks = [asyncio.create_task(self.node(node)) for node in nodes]
        done: set[asyncio.Task[Any]] = set()
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            losers = [task for task in tasks if task not in done]
            for loser in losers:
                loser.cancel()
            await asyncio.gather(*losers, return_exceptions=True)
        return [
            [tasks.index(task), shown(task.exception() or task.result())] for task in tasks if task in done
        ]


def shown(result: object) -> object:
    """A result that can be compared."""
    return f"raised {type(result).__name__}" if isinstance(result, BaseException) else result


class Told(Program, Workflow):
    """The durable run of a program."""

    step_timeout = None

    def tell(self, n: int, fails: bool) -> Awaitable[int]:
        return self.runtime.get(Teller, "teller").tell(n, fails)


class Hurried(Told):
    """The same with a deadline."""

    deadline = DEADLINE_MS / 1000


# -- the model --------------------------------------------------------------------------------------------


class PlainFuture(asyncio.Task[Any]):
    """What a plain step or child gives."""

    async def optional(self, default: object) -> Any:
        try:
            return await self
        except StepError:
            return default

    async def outcome(self) -> Any:
        try:
            return PlainOutcome(await self)
        except StepError:
            return PlainOutcome(None)


class PlainOutcome:
    """How a step went."""

    def __init__(self, value: Any) -> None:
        self.value = value


class PlainRun:
    """A run without durability: a task, a box of events, a list of undos."""

    deadline_ms: int | None = None

    def __init__(self, id_: str, program: Node) -> None:
        self.id = id_
        self.program = program
        self.status = "running"
        self.result: Any = None
        self.state: str | None = None
        self.tags: dict[str, str] = {}
        self.emits: list[tuple[int, str, Any]] = []
        self.early: list[Any] = []
        self.cancelled = self.terminated = self.overdue = False
        self.loop = asyncio.get_running_loop()
        self.ended = self.loop.create_future()
        self._anew()
        self.everything = self.loop.create_task(self._live())
        if self.deadline_ms is not None:
            self.loop.call_later(self.deadline_ms / 1000, self._deadline_passed)

    def _anew(self) -> None:
        self.uses: dict[str, int] = {}
        self.data: dict[str, Any] = {}
        self.waits: list[tuple[tuple[str, ...], asyncio.Future[Any]]] = []
        self.conditions: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self.undos: list[tuple[int, str, Any]] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        self.children: list[PlainRun] = []
        self.order = 0

    async def _live(self) -> None:
        while True:
            code = self.code = type(self)._interpreter(self)
            self.main = self.loop.create_task(code.run(self.program))
            await asyncio.wait([self.main])
            error = None if self.main.cancelled() else self.main.exception()
            if not isinstance(error, ContinueAsNew):
                break
            self._leave("continued")
            self.program = error.decoded_input  # type: ignore[assignment]
            self._anew()
        if self.terminated:
            ended = "terminated"
        elif self.main.cancelled():
            ended = "cancelled" if self.cancelled else "failed"
        else:
            ended = "complete" if error is None else "failed"
            self.result = None if error is not None else self.main.result()
        for task in self.tasks:
            task.cancel()
        if ended != "complete":
            self.is_undoing = True
            for _, name, value in sorted(self.undos, reverse=True):
                try:
                    await self.step(
                        take_back, value, name=f"undo {name}", retry=Retry(1, 2, "constant", jitter=0)
                    )
                except StepError:
                    break
        self.status = ended
        self._leave(ended)
        self.ended.set_result(None)

    is_undoing = False

    @classmethod
    def _interpreter(cls, run: PlainRun) -> Any:
        class Interpreter(Program):
            def __getattr__(self, name: str) -> Any:
                return getattr(run, name)

        return Interpreter()

    def _leave(self, how: str) -> None:
        for task in self.tasks:
            task.cancel()
        for child in self.children:
            child.cancel()

    # -- what run() asks for

    def _ask(self, work: Callable[..., Any], *args: Any) -> PlainFuture:
        async def at_rest() -> Any:
            for _ in range(100):  # what is given up before run() has come to rest never begins
                await asyncio.sleep(0)
            return await work(*args)

        task = PlainFuture(at_rest(), loop=self.loop)
        self.tasks.add(task)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return task

    def step(
        self, function: Any, *args: Any, name: str, retry: Retry | None = None, undo: Any = None
    ) -> PlainFuture:
        self.order += 1
        nth = self.uses[name] = self.uses.get(name, 0) + 1
        return self._ask(self._attempts, function, args, name, nth, retry or Retry(), undo, self.order)

    async def _attempts(
        self, function: Any, args: Any, name: str, nth: int, retry: Retry, undo: Any, order: int
    ) -> Any:
        attempt = 1
        while True:
            STEP.set((self.id, name, nth, attempt))
            try:
                value = await function(*args)
            except OSError as error:
                if attempt > retry.limit:
                    raise StepError(name, nth, attempt, ErrorRecord("OSError", str(error))) from error
                await asyncio.sleep(retry.wait_seconds(attempt, random.Random(0)))
                attempt += 1
            else:
                if undo is not None:
                    self.undos.append((order, name, value))
                return value

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def now(self) -> Any:
        from datetime import UTC, datetime

        return datetime.fromtimestamp(Place.clock() / 1000, UTC)

    async def wait(self, *names: str, timeout: float | None) -> Any:
        for event in self.early:
            if event.name in names:
                self.early.remove(event)
                return event
        wait = (names, self.loop.create_future())
        self.waits.append(wait)
        try:
            return await self._in_time(wait[1], timeout)
        finally:
            if wait in self.waits:
                self.waits.remove(wait)

    async def until(self, condition: Callable[[], bool], timeout: float) -> None:
        if not condition():
            one = (condition, self.loop.create_future())
            self.conditions.append(one)
            await self._in_time(one[1], timeout)

    async def _in_time(self, future: asyncio.Future[Any], timeout: float | None) -> Any:
        """Its result, or a `TimeoutError`; a cancel is over as soon as that of a bare future.

        `asyncio.wait_for` of Python 3.11 goes round the loop once more to cancel: of two ways through a
        program that take no time, the one that gives up such a wait would come second in the model alone.
        """
        timer = None if timeout is None else self.loop.call_later(timeout, _too_late, future)
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()

    def emit(self, name: str, data: Any) -> None:
        self.emits.append((len(self.emits) + 1, name, data))

    def set_status(self, state: str) -> None:
        self.state = state

    def send(self, workflow: Any, id_: str, name: str, payload: int, event_id: str | None) -> PlainFuture:
        async def send() -> None:
            Place.notes.append(payload)

        return self._ask(send)

    async def tell(self, n: int, fails: bool) -> int:
        if fails:
            raise StepError("tell", 1, 1, ErrorRecord("ValueError", ""))
        Place.notes.append(n)
        PlainRun.told += 1
        return PlainRun.told

    told = 0

    def child(self, kind: Any, program: Node, detached: bool) -> PlainFuture:
        nth = self.uses["child"] = self.uses.get("child", 0) + 1

        async def outcome() -> Any:
            child = type(self)(f"{self.id}/{self.child_name}-{nth}", program)
            if not detached:
                self.children.append(child)
            try:
                await asyncio.shield(child.ended)
            except asyncio.CancelledError:
                if not detached:
                    child.cancel()
                raise
            if child.status != "complete":
                raise StepError("child", 1, 1, ErrorRecord("RunFailed", child.status))
            return child.result

        return self._ask(outcome)

    child_name = "Told"

    def continue_as_new(self, program: Node) -> None:
        raise ContinueAsNew(b"", program)

    # -- what comes from outside

    def _look(self) -> None:
        for one in list(self.conditions):
            if not one[1].done() and one[0]():
                self.conditions.remove(one)
                one[1].set_result(None)

    def event(self, event: Any) -> None:
        for wait in self.waits:
            if event.name in wait[0] and not wait[1].done():
                self.waits.remove(wait)
                wait[1].set_result(event)
                return
        self.early.append(event)

    def update(self, name: str, n: int) -> None:
        async def run() -> None:
            await getattr(self.code, name)(n)
            self._look()

        if not self.main.done():
            self.loop.create_task(run())

    def cancel(self) -> None:
        if self.status == "running" and not self.main.done() and not self.cancelled:
            self.cancelled = True
            self.main.cancel()

    def terminate(self) -> None:
        if self.status == "running" and not self.main.done() and not self.cancelled:
            self.terminated = self.cancelled = True
            self.code.node = None  # no clean-up
            self.main.cancel()

    def _deadline_passed(self) -> None:
        if not self.main.done() and not self.cancelled:
            self.main.cancel()


def _too_late(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


class PlainHurried(PlainRun):
    """The same with a deadline."""

    deadline_ms = DEADLINE_MS
    child_name = "Hurried"


# -- programs ---------------------------------------------------------------------------------------------


@st.composite
def programs(draw: st.DrawFn, *, quick: bool = False) -> Node:
    """A program whose leaves are all different; `quick` steps take no time."""
    left = list(draw(st.permutations(range(1, LEAVES + 1))))
    said = iter(range(1, 1_000))

    def leaf() -> Node:
        kinds = [
            "step",
            "step",
            "fail",
            "optional",
            "outcome",
            "sleep",
            "wait",
            "wait",
            "until",
            "say",
            "send",
            "tell",
        ]
        kinds.append("beat")
        kind = draw(st.sampled_from(kinds))
        if kind == "say":
            return ["say", next(said)]
        if kind == "wait" and draw(st.booleans()):
            return ["wait", draw(names), left.pop() if draw(st.integers(0, 3)) else None]
        which = left.pop()
        if kind == "step":
            return ["step", which, draw(st.sampled_from([0, 0, 1])), draw(st.booleans()), quick]
        if kind == "fail":
            return ["step", which, 5, draw(st.booleans()), quick]
        if kind in ("optional", "beat"):
            return [kind, which, quick]
        if kind == "outcome":
            return ["outcome", which, draw(st.sampled_from([0, 5])), quick]
        if kind == "wait":
            return ["wait", draw(names), which]
        if kind == "until":
            return ["until", draw(st.integers(1, 6)), which]
        return ["tell", which, draw(st.booleans())] if kind == "tell" else [kind, which]

    def tree(depth: int) -> Node:
        if depth >= 3 or len(left) < 3:
            return leaf() if left else ["seq"]
        kind = draw(
            st.sampled_from(["leaf", "seq", "branch", "try", "finally", "gather", "first", "first", "child"])
        )
        if kind == "leaf":
            return leaf()
        if kind == "branch":
            return ["branch", tree(depth + 1), tree(depth + 1), tree(depth + 1)]
        if kind in ("try", "finally"):
            return [kind, tree(depth + 1), tree(depth + 1)]
        if kind == "child":
            return ["child", left.pop(), ["seq", tree(depth + 1)], draw(st.booleans())]
        return [kind, *(tree(depth + 1) for _ in range(draw(st.integers(2, 3))) if left)]

    names = st.sampled_from([["red"], ["blue"], ["red", "blue"]])
    first = ["seq", tree(0), tree(1)]
    if left and draw(st.integers(0, 4)) == 0:
        return ["again", first, ["seq", tree(1)]]
    return first
