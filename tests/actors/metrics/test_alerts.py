"""Alerts are told once, told as over, and no handler harms anybody."""

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest

from holdfast import Alert, AlertLimits, CallerError, Counter, Histogram, Retry, RunFailed, Runtime, Workflow
from holdfast.actors.metrics.alert_rules import WINDOW_SECONDS, Room, findings
from holdfast.actors.metrics.course import POINT_SECONDS, Totals
from holdfast.runtime.clock import ManualClock
from holdfast.storage.histogram import LONG_SECONDS, SECONDS, Buckets

NOTHING = AlertLimits(
    failed_share=None,
    retries_per_minute=None,
    new_dead_letters=None,
    slowdown=None,
    stalls=None,
    free_share=None,
)
ROOM = Room(1_000, 1_000_000, None, 0)


def limits(**given: float) -> AlertLimits:
    """Only these rules."""
    return msgspec.structs.replace(NOTHING, **given)


enough = asyncio.Semaphore(0)


def fails(number: int) -> None:
    enough.release()
    raise ValueError("as asked")


class AlertFails(Workflow):
    retry = Retry(0)

    async def run(self) -> None:
        raise ValueError("as asked")


class AlertRetries(Workflow):
    retry = Retry(1000, delay=0)

    async def run(self) -> None:
        await self.step(fails, 1)  # which tells the test of each attempt


async def fail(rt: Runtime, times: int) -> None:
    """So many runs fail."""
    for _ in range(times):
        with pytest.raises(RunFailed):
            await (await rt.start(AlertFails)).result()


async def told(rt: Runtime) -> None:
    """Let handlers run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_once_and_over(tmp_path: Path) -> None:
    """A rule that stays on is told once; when it is off again, that is told, and it may come anew."""
    clock, alerts = ManualClock(), list[Alert]()
    async with Runtime(tmp_path / "data", clock=clock) as rt:
        rt.on_alert(alerts.append, limits(failed_share=0.5, least_runs=3))
        await fail(rt, 3)
        clock.advance(POINT_SECONDS * 5)
        await told(rt)
        assert [(one.rule, one.state) for one in alerts] == [("failure_rate", "on")]
        assert alerts[0].message == "3 of 3 runs failed within five minutes"
        assert (alerts[0].value, alerts[0].threshold) == (1.0, 0.5)
        clock.advance(WINDOW_SECONDS)
        await told(rt)
        assert [(one.rule, one.state) for one in alerts[1:]] == [("failure_rate", "over")]
        await fail(rt, 3)
        clock.advance(POINT_SECONDS)
        await told(rt)
        assert [one.state for one in alerts] == ["on", "over", "on"]


async def test_dead_letters(tmp_path: Path) -> None:
    """Failed runs are dead letters that grow."""
    clock, alerts = ManualClock(), list[Alert]()
    async with Runtime(tmp_path / "data", clock=clock) as rt:
        rt.on_alert(alerts.append, limits(new_dead_letters=2))
        clock.advance(POINT_SECONDS)
        await fail(rt, 2)
        clock.advance(POINT_SECONDS)
        await told(rt)
    assert [(one.rule, one.value) for one in alerts] == [("dead_letter_growth", 2)]


async def test_retry_storm(tmp_path: Path) -> None:
    """Steps that are tried again and again are a storm."""
    clock, alerts = ManualClock(), list[Alert]()
    async with Runtime(tmp_path / "data", clock=clock) as rt:
        rt.on_alert(alerts.append, limits(retries_per_minute=1))
        await rt.start(AlertRetries)
        for _ in range(5):
            await enough.acquire()
        clock.advance(POINT_SECONDS)
        await told(rt)
    assert [one.rule for one in alerts] == ["retry_storm"]


def totals(stalls: int = 0, *seconds: float) -> Totals:
    """So many stalls, and runs that took so long."""
    buckets = Buckets(LONG_SECONDS)
    for one in seconds:
        buckets.observe(one)
    empty = Buckets(SECONDS).histogram()
    return Totals(0, 0, 0, 0, 0, 0, stalls, buckets.histogram(), empty)


def test_slowdown() -> None:
    """Runs that take several times what they took in the hour before are a slowdown; too few say nothing."""
    fast, slow = [0.01] * 20, [1.0] * 20
    rule = limits(slowdown=3.0, least_runs=20)
    course = [totals(), *[totals(0, *fast)] * 30, totals(0, *fast, *slow)]
    found = findings(rule, course, [], ROOM)["slowdown"]
    assert found is not None
    assert found.value > 3
    assert findings(rule, [totals(), *[totals(0, *fast)] * 31], [], ROOM) == {"slowdown": None}
    few = [totals(), *[totals(0, *fast)] * 30, totals(0, *fast, *slow[1:])]
    assert findings(rule, few, [], ROOM) == {"slowdown": None}


def test_loop_stalled() -> None:
    """A stall within the window is told."""
    assert findings(limits(stalls=1), [totals(2), totals(3)], [], ROOM)["loop_stalled"] is not None
    assert findings(limits(stalls=1), [totals(3), totals(3)], [], ROOM) == {"loop_stalled": None}


@pytest.mark.parametrize(
    ("room", "is_on"),
    [
        (Room(90, 910, None, 0), False),
        (Room(950, 50, None, 0), True),
        (Room(500, 500, None, 450), True),
        (Room(95, 9_000, 100, 0), True),
        (Room(50, 9_000, 100, 0), False),
    ],
)
def test_disk(room: Room, is_on: bool) -> None:
    """What is left of the disk above `min_free_bytes`, or of the quota, is compared with the whole."""
    found = findings(limits(free_share=0.1), [totals()], [], room)["disk_nearly_full"]
    assert (found is not None) is is_on


async def test_async_handler(tmp_path: Path) -> None:
    """A handler may be async, and may use the runtime."""
    clock = ManualClock()
    async with Runtime(tmp_path / "data", clock=clock) as rt:
        heard = asyncio.Event()

        async def handler(alert: Alert) -> None:
            await rt.get(Counter, alert.rule).increment()
            heard.set()

        rt.on_alert(handler, limits(failed_share=0.1, least_runs=1))
        await fail(rt, 1)
        clock.advance(POINT_SECONDS)
        await heard.wait()
        assert await rt.get(Counter, "failure_rate").get() == 1


async def test_handler_that_raises(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a handler raises is logged, and it hears the next alert all the same; others hear theirs."""
    clock, mine, others = ManualClock(), list[str](), list[str]()

    def broken(alert: Alert) -> None:
        mine.append(alert.state)
        raise RuntimeError("a broken pager")

    async with Runtime(tmp_path / "data", clock=clock) as rt:
        rule = limits(failed_share=0.1, least_runs=1)
        rt.on_alert(broken, rule)
        rt.on_alert(lambda alert: others.append(alert.state), rule)
        await fail(rt, 1)
        clock.advance(POINT_SECONDS)
        await told(rt)
        clock.advance(WINDOW_SECONDS)
        await told(rt)
    assert mine == others == ["on", "over"]
    raised = [one for one in caplog.records if one.name == "holdfast.alerts" and one.exc_info]
    assert len(raised) == 2


async def test_handler_that_hangs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that hangs holds up nobody, not even the end; the oldest alerts are lost."""
    clock = ManualClock()
    cancelled: list[bool] = []

    async def hangs(alert: Alert) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    caplog.set_level(logging.ERROR, "holdfast.alerts")
    async with Runtime(tmp_path / "data", clock=clock) as rt:
        rt.on_alert(hangs, limits(failed_share=0.1, least_runs=1))
        for _ in range(52):
            await fail(rt, 1)
            clock.advance(POINT_SECONDS)
            await told(rt)
            clock.advance(WINDOW_SECONDS)
            await told(rt)
    assert cancelled == [True]
    assert "it is not told" in caplog.text


async def test_stopped(tmp_path: Path) -> None:
    """Who takes its handler back hears nothing more."""
    clock, alerts = ManualClock(), list[Alert]()
    async with Runtime(tmp_path / "data", clock=clock) as rt:
        stop = rt.on_alert(alerts.append, limits(failed_share=0.1, least_runs=1))
        stop()
        stop()
        await fail(rt, 1)
        clock.advance(POINT_SECONDS)
        await told(rt)
    assert alerts == []


@pytest.mark.parametrize(
    "given", [{"failed_share": 0}, {"least_runs": None}, {"stalls": "1"}, {"slowdown": -1.0}]
)
def test_bad_limits(given: dict[str, object]) -> None:
    """A limit that is always or never met is refused, by name."""
    with pytest.raises(CallerError, match=f"AlertLimits.{next(iter(given))} must be a number above 0"):
        AlertLimits(**given)  # type: ignore[arg-type]


async def test_bad_handler(tmp_path: Path) -> None:
    """What can't be called is refused."""
    with pytest.raises(CallerError, match="on_alert needs a function"):
        Runtime(tmp_path / "data").on_alert(7)  # type: ignore[arg-type]


def test_defaults_are_quiet() -> None:
    """Where nothing happens no rule of the default limits is on."""
    assert isinstance(totals().run_seconds, Histogram)
    assert set(findings(AlertLimits(), [totals()], [], ROOM).values()) == {None}
