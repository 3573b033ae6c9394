"""What others notice of actors that always fail, and of large values; run by ``scale_child``.

Ten callers increment a counter each, again and again, and a write set of our own is committed about every
millisecond.  Each load stands between two whiles without one, and is compared with their mean.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import random
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from holdfast import Actor, Alarm, Counter, HoldfastError, Limits, Runtime

CALLERS = 10
PROBE_EVERY_SECONDS = 0.001
# Outside every prefix that the library uses.
PROBE_KEY = b"\xff-bench-probe"
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Window:
    """What the neighbours had in a while."""

    calls_per_second: float
    call_p99_ms: float
    commit_p99_ms: float
    # The longest that the loop was held.
    stall_ms: float


class Neighbours:
    """Callers and commits beside which a load runs."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._calls: list[float] = []
        self._commits: list[float] = []
        self._stall = 0.0
        self._over = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Call and commit until left."""
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(self._call(self._runtime.get(Counter, f"neighbour-{number}")))
            group.create_task(self._commit())
            group.create_task(self._beat())
            yield
            self._over = True

    async def during(self, load: Awaitable[object]) -> Window:
        """What they have while `load` runs."""
        self._take(1.0)
        began = time.perf_counter()
        await load
        seconds = time.perf_counter() - began
        # What is under way counts too, or a load that holds everything up would show nothing.
        commits = len(self._commits)
        while len(self._commits) < commits + 2:  # noqa: ASYNC110  # a benchmark may look
            await asyncio.sleep(PROBE_EVERY_SECONDS)
        return self._take(seconds)

    def _take(self, seconds: float) -> Window:
        window = Window(
            len(self._calls) / seconds, p99_ms(self._calls), p99_ms(self._commits), self._stall * 1000
        )
        self._calls, self._commits, self._stall = [], [], 0.0
        return window

    async def _call(self, counter: Counter) -> None:
        while not self._over:
            began = time.perf_counter()
            await counter.increment()
            self._calls.append(time.perf_counter() - began)

    async def _commit(self) -> None:
        store = self._runtime.store
        while not self._over:
            began = time.perf_counter()
            await store.wait_durable(store.stage({PROBE_KEY: b"probe"}, reserve=True))
            self._commits.append(time.perf_counter() - began)
            await asyncio.sleep(PROBE_EVERY_SECONDS)

    async def _beat(self) -> None:
        while not self._over:
            began = time.perf_counter()
            await asyncio.sleep(PROBE_EVERY_SECONDS)
            self._stall = max(self._stall, time.perf_counter() - began)


def p99_ms(seconds: list[float]) -> float:
    """The 99th percentile in milliseconds."""
    ordered = sorted(seconds) or [float("nan")]
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000


async def between_quiet(
    neighbours: Neighbours, quiet_seconds: float, loads: list[tuple[str, Callable[[], Awaitable[object]]]]
) -> list[dict[str, Any]]:
    """Each load between two whiles without one."""
    await asyncio.sleep(quiet_seconds)  # the caches
    before = await neighbours.during(asyncio.sleep(quiet_seconds))
    found = []
    for name, load in loads:
        under = await neighbours.during(load())
        await asyncio.sleep(quiet_seconds / 4)
        after = await neighbours.during(asyncio.sleep(quiet_seconds))
        found.append(
            {
                "name": name,
                **asdict(under),
                "quiet_call_p99_ms": (before.call_p99_ms + after.call_p99_ms) / 2,
                "quiet_commit_p99_ms": (before.commit_p99_ms + after.commit_p99_ms) / 2,
            }
        )
        before = after
    return found


# ------------------------------------------------------------------------------------------------------------
# Poison actors.

POISONS = ("constructor", "handler", "recursion", "result")


class Armed:
    """Whether the actors below fail."""

    yes = False


class Poisoned(Actor):
    """Fails in the way that its key begins with, in calls and in alarms."""

    value: object = None

    def __init__(self) -> None:
        if self.runtime.deps.get(Armed).yes and self._kind() == "constructor":
            raise ConnectionError("the constructor raises")

    async def set(self, seconds: float) -> None:
        """Set the alarm that will fail."""
        self.alarms.set(seconds)

    async def touch(self) -> object:
        """Fail."""
        return self._fail()

    async def on_alarm(self, alarm: Alarm) -> None:
        """Fail."""
        self.value = self._fail()

    def _kind(self) -> str:
        return str(self.key).partition("-")[0]

    def _fail(self) -> object:
        kind = self._kind()
        if kind == "recursion":
            return _endless()
        if kind == "handler":
            raise ConnectionError("the handler raises")
        return lambda: 1  # can't be stored, and not be copied


def _endless() -> object:
    return _endless_too()


def _endless_too() -> object:
    return _endless()


async def poison(folder: str, actors: int, seconds: float) -> dict[str, Any]:
    """``actors`` poison actors of each kind: an alarm for each, and a call a second from outside."""
    armed, text = Armed(), io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    log = logging.getLogger("holdfast")
    log.addHandler(handler)
    log.propagate = False
    began_all = time.perf_counter()

    async def fail(rt: Runtime, kind: str, round_: int) -> None:
        armed.yes = False
        refs = [rt.get(Poisoned, f"{kind}-{round_}-{number}") for number in range(actors)]
        for ref in refs:
            await ref.set(random.random() * min(1.0, seconds / 4))
        rt.directory.drop_all()  # so that the constructor is asked again
        armed.yes = True

        async def call(ref: Poisoned) -> None:
            until = time.perf_counter() + seconds
            await asyncio.sleep(random.random())
            while time.perf_counter() < until:
                try:
                    await ref.touch()
                except (HoldfastError, ConnectionError, RecursionError):
                    pass
                await asyncio.sleep(1.0)

        await asyncio.gather(*[call(ref) for ref in refs])

    found: list[dict[str, Any]] = []
    async with Runtime(folder, deps=[armed]) as rt:
        began, used = time.perf_counter(), _processor_seconds()
        await asyncio.sleep(seconds)
        idle_share = (_processor_seconds() - used) / (time.perf_counter() - began)
        alone = {}
        for kind in POISONS:
            began, used = time.perf_counter(), _processor_seconds()
            await fail(rt, kind, 0)
            share = (_processor_seconds() - used) / (time.perf_counter() - began) - idle_share
            alone[kind] = {"processor_share_each": share / actors}
        neighbours = Neighbours(rt)
        async with neighbours.running():
            found = await between_quiet(
                neighbours, seconds, [(kind, partial(fail, rt, kind, 1)) for kind in POISONS]
            )
    log.removeHandler(handler)
    return {
        "kinds": [{**one, **alone[one["name"]]} for one in found],
        "log_lines": text.getvalue().count(" holdfast."),
        "log_seconds": time.perf_counter() - began_all,
        "alarms": 2 * len(POISONS) * actors,
    }


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# ------------------------------------------------------------------------------------------------------------
# Large values.

# Keys that each writer goes round: the file need not grow on and on.
KEYS = 16
WRITERS = (1, 4, 16)


class Blobs(Actor):
    """Stores bytes."""

    async def put(self, key: int, value: bytes) -> None:
        """One value."""
        self.storage.put(key, value)

    async def put_many(self, count: int, value: bytes) -> None:
        """Many values in one turn."""
        for key in range(count):
            self.storage.put(key, value)


async def large_values(folder: str, values: int, seconds: float) -> dict[str, Any]:
    """``values`` of 1 MiB by one writer, and by more at once; 64 MiB in one turn; 64 MiB in one value."""
    from .scale_child import anonymous_bytes

    value = os.urandom(MIB)

    async def put_all(rt: Runtime, writers: int) -> None:
        source = iter(range(values))

        async def put(writer: int) -> None:
            for number in source:
                await rt.get(Blobs, writer).put(number % KEYS, value)

        await asyncio.gather(*[put(writer) for writer in range(writers)])

    async def one_turn(rt: Runtime) -> None:
        # Long enough that it isn't a hundredth of all by itself.
        await asyncio.gather(rt.get(Blobs, "turn").put_many(64, value), asyncio.sleep(seconds))

    async def refused(rt: Runtime) -> None:
        until = time.perf_counter() + seconds
        await asyncio.sleep(0)
        large = bytes(64 * MIB)
        while time.perf_counter() < until:
            try:
                await rt.get(Blobs, "refused").put(0, large)
            except HoldfastError:
                pass
            await asyncio.sleep(0.1)

    # Memory is looked at four times in the idle time.
    async with Runtime(folder, limits=Limits(idle_seconds=4.0)) as rt:
        neighbours = Neighbours(rt)
        async with neighbours.running():
            await rt.get(Blobs, 0).put(0, value)  # for buffers that are made once
            await asyncio.sleep(seconds)
            before = anonymous_bytes()
            found = await between_quiet(
                neighbours,
                seconds,
                [
                    *[
                        (f"{values} x 1 MiB, {writers} at once", partial(put_all, rt, writers))
                        for writers in WRITERS
                    ],
                    ("64 MiB in one turn", partial(one_turn, rt)),
                    ("64 MiB in one value, refused", partial(refused, rt)),
                ],
            )
            await asyncio.sleep(3.0)
            after = anonymous_bytes()
    return {
        "loads": found,
        "bytes_before": before,
        "bytes_after": after,
    }
