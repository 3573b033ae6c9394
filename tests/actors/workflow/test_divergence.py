"""Changed code: what doesn't fit the journal makes a run stuck, and the sentence says where."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from holdfast import Counter, Fatal, Retry, RunFailed, StepError, Workflow
from holdfast.actors.handle import Run
from holdfast.actors.workflow.divergence import DIVERGENCE
from holdfast.runtime.clock import ManualClock
from tests.actors.workflow.support import Folder, pass_time, play, settle, soon

Code = Callable[["Changing"], Awaitable[Any]]
CODE: list[Code] = []
SEEN: list[str] = []
BROKEN: set[str] = set()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SEEN.clear()
    BROKEN.clear()


class Changing(Workflow):
    """Its code is changed by the test between two openings."""

    name = "DivergenceChanging"
    retry = Retry(3, 100, "constant", jitter=0)

    async def run(self) -> Any:
        return await CODE[0](self)

    def do(self, name: str) -> Awaitable[str]:
        return self.step(mark, name, name=name)

    async def helper(self, name: str) -> str:
        return await self.do(name)


async def mark(what: str) -> str:
    SEEN.append(what)
    if what in BROKEN:
        raise OSError(f"{what} is broken")
    return what


async def never(what: str) -> str:
    SEEN.append(what)
    await asyncio.Event().wait()
    return what


# What the journals of these tests come from: one, two, a sleep of a minute, three, and one of ten.
async def original(self: Changing) -> list[str]:
    got = [await self.do("one"), await self.do("two")]
    await self.sleep(60)
    got.append(await self.do("three"))
    await self.sleep(600)
    return got


async def renamed(self: Changing) -> None:
    await self.do("one")
    await self.do("zwei")


async def removed(self: Changing) -> None:
    await self.do("one")
    await self.sleep(60)
    await self.do("three")


async def inserted_before(self: Changing) -> None:
    await self.do("zero")
    await original(self)


async def inserted_between(self: Changing) -> None:
    await self.do("one")
    await self.do("one and a half")
    await self.do("two")


async def reordered(self: Changing) -> None:
    await self.do("two")
    await self.do("one")


async def sleep_added(self: Changing) -> None:
    await self.do("one")
    await self.sleep(1)
    await self.do("two")


async def sleep_removed(self: Changing) -> None:
    await self.do("one")
    await self.do("two")
    await self.do("three")


async def sleep_longer(self: Changing) -> None:
    await self.do("one")
    await self.do("two")
    await self.sleep(90)


async def sleep_merged(self: Changing) -> None:
    await self.do("one")
    await self.do("two")
    await self.sleep(600)


async def branch_flipped(self: Changing) -> None:
    if await self.do("one") == "one":
        await self.do("else")
    else:
        await self.do("two")


async def call_in_place_of_step(self: Changing) -> None:
    await self.do("one")
    await self.runtime.get(Counter, "two").increment()


async def another_use(self: Changing) -> None:
    await self.do("one")
    await self.do("one")


async def ends_early(self: Changing) -> str:
    await self.do("one")
    return "early"


async def ends_without_waiting(self: Changing) -> str:
    for name in ("one", "two"):
        self.do(name)
    return "early"


async def raises_early(self: Changing) -> None:
    await self.do("one")
    raise ValueError("not today")


async def gives_up(self: Changing) -> None:
    one = asyncio.ensure_future(self.do("one"))
    two = asyncio.ensure_future(self.do("two"))
    await one
    two.cancel()
    await self.sleep(60)


async def waits_in_a_helper(self: Changing) -> None:
    await self.helper("one")
    await self.helper("deux")


class Case(NamedTuple):
    """Changed code, the first difference, and the text of the line that is named."""

    code: Code
    difference: str
    line: str


# The line of run() where it ended.
RUN = "return await CODE[0](self)"
CASES = [
    Case(renamed, "record 2 of the journal is step two (use 1), but run() waits for step zwei", '"zwei"'),
    Case(removed, "record 2 of the journal is step two (use 1), but run() waits for timer", "sleep(60)"),
    Case(inserted_before, "record 1 of the journal is step one (use 1), but run() waits for", '"zero"'),
    Case(inserted_between, "record 2 of the journal is step two (use 1), but run() waits for", "half"),
    Case(reordered, "record 1 of the journal is step one (use 1), but run() waits for step two", '"two"'),
    Case(sleep_added, "record 2 of the journal is step two (use 1), but run() waits for timer 1", "sleep(1)"),
    Case(sleep_removed, "record 3 of the journal is timer 1, but run() waits for step three", '"three"'),
    Case(sleep_longer, "record 3 of the journal is timer 1, but it was due at", "sleep(90)"),
    Case(sleep_merged, "record 3 of the journal is timer 1, but it was due at", "sleep(600)"),
    Case(branch_flipped, "record 2 of the journal is step two (use 1), but run() waits for step e", '"else"'),
    Case(
        call_in_place_of_step,
        "record 2 of the journal is step two (use 1), but run() waits for step Counter/two.increment",
        "increment()",
    ),
    Case(another_use, "record 2 of the journal is step two (use 1), but run() waits for step one", '"one"'),
    Case(ends_early, "record 2 of the journal is step two (use 1), but run() has ended already", RUN),
    Case(ends_without_waiting, "record 1 of the journal is step one (use 1), but run() has ended", RUN),
    Case(
        raises_early,
        "step two (use 1), but run() has ended already: it raised ValueError: not today",
        "raise ValueError",
    ),
    Case(gives_up, "record 4 of the journal is step three (use 1), but run() has ended", RUN),
    Case(waits_in_a_helper, "is step two (use 1), but run() waits for step deux", "self.do(name)"),
]  # fmt: skip


async def recorded(folder: Folder, clock: ManualClock, code: Code = original, seconds: float = 120) -> None:
    """A journal on disk: the run of `code` after so many seconds, and nobody has the folder open."""
    CODE[:] = [code]
    rt = await folder.open()
    await rt.start(Changing, id="r")
    await pass_time(rt, clock, seconds, step=10)
    await folder.crash()


async def stuck(folder: Folder, clock: ManualClock, code: Code) -> str:
    """Open the folder with changed code, ten minutes later; returns the message of the run that is stuck."""
    CODE[:] = [code]
    clock.advance(600)
    rt = await folder.open()
    await settle(rt)
    run = rt.run(Changing, "r")
    with pytest.raises(RunFailed) as raised:
        await soon(run.result())
    assert raised.value.status == "stuck", raised.value
    assert raised.value.cause is not None
    assert raised.value.cause.type == DIVERGENCE, raised.value
    return raised.value.cause.message


async def mended(folder: Folder, clock: ManualClock, code: Code = original) -> Any:
    """Put fitting code back; the result of the run."""
    CODE[:] = [code]
    rt = await folder.reopen()
    run: Run[Any] = rt.run(Changing, "r")
    return await play(rt, clock, run)


def named_line(message: str) -> str:
    """The source of the first line that a message names."""
    file, _, rest = message.partition("; at ")[2].partition(" in ")[0].rpartition(":")
    assert file == __file__, message
    with open(file, encoding="utf-8") as source:
        return source.read().splitlines()[int(rest) - 1]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code.__name__)
async def test_code_that_asks_for_something_else(folder: Folder, clock: ManualClock, case: Case) -> None:
    """The run is stuck, with the first difference, both sequences and the line; fitting code goes on."""
    await recorded(folder, clock)
    message = await stuck(folder, clock, case.code)
    assert case.difference in message
    assert case.line in named_line(message)
    assert "recorded: 1 step one (use 1), 2 step two (use 1), 3 timer 1, 4 step three (use 1); " in message
    assert "requested: " in message
    assert await mended(folder, clock) == ["one", "two", "three"]
    assert SEEN.count("one") == SEEN.count("two") == SEEN.count("three") == 1


async def test_both_sequences_are_whole_and_in_order(folder: Folder, clock: ManualClock) -> None:
    """What run() asked for at the same time stands together, steps before timers."""

    async def changed(self: Changing) -> None:
        await self.do("one")
        await asyncio.gather(self.do("two"), self.sleep(5), self.do("side"))
        await self.do("never asked")

    await recorded(folder, clock)
    message = await stuck(folder, clock, changed)
    assert (
        "requested: step one (use 1), step two (use 1), step side (use 1), timer 1; " in message
    ), message  # fmt: skip
    assert "record 3 of the journal is timer 1, but it was due at" in message


async def test_long_sequences_are_cut_around_the_difference(folder: Folder, clock: ManualClock) -> None:
    """The message stays short, and says how much it leaves out."""

    async def long(self: Changing) -> None:
        for _ in range(40):
            await self.do("one")
        await self.sleep(600)

    async def changed(self: Changing) -> None:
        for _ in range(20):
            await self.do("one")
        await self.do("other")

    await recorded(folder, clock, long)
    message = await stuck(folder, clock, changed)
    assert "record 21 of the journal is step one (use 21)" in message
    assert "recorded: (8 more), 9 step one (use 9), " in message
    assert "24 step one (use 24), (16 more)" in message
    assert "requested: (9 more), step one (use 10), " in message
    assert len(message) < 4_000


async def test_it_says_whether_the_code_of_the_class_changed(
    folder: Folder, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same class that asks for something else takes it from elsewhere."""
    await recorded(folder, clock)
    assert "the code of the class has not changed since" in await stuck(folder, clock, renamed)
    assert folder.rt is not None
    then = folder.rt.runs(Changing)[0].fingerprint
    assert len(then) == 12
    await folder.crash()

    async def run(self: Changing) -> Any:
        await renamed(self)

    monkeypatch.setattr(Changing, "run", run)
    assert f"has changed since (fingerprint {then} then, " in await stuck(folder, clock, renamed)
    assert folder.rt.runs(Changing)[0].fingerprint == then, "only code that fits leaves its fingerprint"


async def test_tasks_that_wait_elsewhere_are_named_too(folder: Folder, clock: ManualClock) -> None:
    """With code side by side the lines of all tasks are told, that of run() first."""

    async def changed(self: Changing) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.helper("left"))
            group.create_task(renamed(self))

    await recorded(folder, clock)
    message = await stuck(folder, clock, changed)
    places = message.partition("; at ")[2].partition("; recorded")[0].split(", ")
    assert [place.partition(" in ")[2].rpartition(".")[2] for place in places] == [
        "changed",
        "helper",
        "renamed",
    ]


# -- what fits ---------------------------------------------------------------------------------------------


async def longer(self: Changing) -> list[str]:
    return [*await original(self), await self.do("four")]


async def beside(self: Changing) -> list[str]:
    side = asyncio.ensure_future(self.do("beside"))
    got = await original(self)
    await side
    return got


async def all_at_once(self: Changing) -> list[str]:
    one, two = await asyncio.gather(self.do("one"), self.do("two"))
    await self.sleep(60)
    three = await self.do("three")
    return [one, two, three]


async def other_sleep_ahead(self: Changing) -> list[str]:
    got = [await self.do("one"), await self.do("two")]
    await self.sleep(60)
    got.append(await self.do("three"))
    await self.sleep(900)
    return got


@pytest.mark.parametrize("code", [longer, beside, all_at_once, other_sleep_ahead])
async def test_code_that_asks_for_more_or_earlier_fits(
    folder: Folder, clock: ManualClock, code: Code
) -> None:
    """What the journal hasn't reached may change, and recorded things may be asked for before their time."""
    await recorded(folder, clock)
    result = await mended_with(folder, clock, code)
    assert result[:3] == ["one", "two", "three"]
    assert SEEN.count("one") == SEEN.count("two") == SEEN.count("three") == 1


async def mended_with(folder: Folder, clock: ManualClock, code: Code) -> Any:
    CODE[:] = [code]
    rt = await folder.open()
    return await play(rt, clock, rt.run(Changing, "r"))


# -- groups, races, what was given up ----------------------------------------------------------------------


def grouped(*names: str) -> Code:
    async def code(self: Changing) -> list[str]:
        async with self.group() as group:
            steps = [group.step(mark, name, name=name) for name in names]
        await self.sleep(600)
        return [step.result() for step in steps]

    return code


@pytest.mark.parametrize(
    ("names", "fits"),
    [(["a", "b"], True), (["b", "a"], True), (["a", "b", "c"], True), (["a"], False), (["a", "c"], False)],
)
async def test_members_of_a_group(folder: Folder, clock: ManualClock, names: list[str], fits: bool) -> None:
    """A member that is recorded must be there; their order is free, and new ones may come."""
    await recorded(folder, clock, grouped("a", "b"), seconds=0)
    if fits:
        assert await mended_with(folder, clock, grouped(*names)) == names
    else:
        assert "is step b (use 1), but run() waits for" in await stuck(folder, clock, grouped(*names))
        assert await mended(folder, clock, grouped("a", "b")) == ["a", "b"]


async def race(self: Changing) -> str:
    first = asyncio.ensure_future(self.sleep(10))
    second = asyncio.ensure_future(self.sleep(20))
    done, _ = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
    await self.sleep(600)
    return "first" if first in done else "second"


async def race_turned(self: Changing) -> str:
    second = asyncio.ensure_future(self.sleep(20))
    first = asyncio.ensure_future(self.sleep(10))
    done, _ = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
    await self.sleep(600)
    return "first" if first in done else "second"


async def test_timers_that_changed_places_don_t_decide_a_race_the_other_way(
    folder: Folder, clock: ManualClock
) -> None:
    """Timers have only numbers; the time that one was due tells it from the others."""
    await recorded(folder, clock, race)
    assert "record 1 of the journal is timer 1, but it was due at" in await stuck(folder, clock, race_turned)
    assert await mended(folder, clock, race) == "first"


async def timeout_after_sleep(self: Changing) -> str:
    await self.sleep(60)
    async with asyncio.timeout(10):
        return await self.do("one")


async def timeout_alone(self: Changing) -> str:
    async with asyncio.timeout(10):
        return await self.do("one")


async def test_a_sleep_taken_away_does_not_become_a_timeout(folder: Folder, clock: ManualClock) -> None:
    """The timer of the sleep is not that of the timeout behind it; nothing fails by it."""

    async def original(self: Changing) -> str:
        got = await timeout_after_sleep(self)
        await self.sleep(600)
        return got

    await recorded(folder, clock, original)
    assert "is timer 1, but it was due at" in await stuck(folder, clock, timeout_alone)
    assert await mended(folder, clock, original) == "one"


async def slowly(what: str) -> str:
    """Ends some rounds of the loop behind step two."""
    rounds = 0
    while rounds < 5:
        rounds += "two" in SEEN
        await asyncio.sleep(0)
    return what


async def test_a_step_that_is_given_up_before_its_outcome(folder: Folder, clock: ManualClock) -> None:
    """What was recorded behind things that it was given up before can't have been on its way then."""

    def code(*, give_up: bool) -> Code:
        async def code(self: Changing) -> list[str]:
            slow = asyncio.ensure_future(self.step(slowly, "slow", name="slow"))
            got = [await self.do("one")]
            if give_up:
                slow.cancel()
            got.append(await self.do("two"))
            await self.sleep(60)
            return got

        return code

    await recorded(folder, clock, code(give_up=False), seconds=0)
    message = await stuck(folder, clock, code(give_up=True))
    assert "record 3 of the journal is step slow (use 1), but run() gave it up before; " in message
    assert await mended(folder, clock, code(give_up=False)) == ["one", "two"]


# -- retries, failures, redriving --------------------------------------------------------------------------


async def test_a_step_that_is_being_retried_is_recorded_too(folder: Folder, clock: ManualClock) -> None:
    """Attempts are records: code that doesn't ask for their step any more doesn't fit."""
    BROKEN.add("two")
    await recorded(folder, clock, original, seconds=0)
    message = await stuck(folder, clock, renamed)
    assert "the journal has attempts of step two (use 1), but run() waits for step zwei (use 1)" in message
    assert "recorded: 1 step one (use 1), attempts of step two (use 1); " in message
    assert '"zwei"' in named_line(message)
    BROKEN.clear()
    assert await mended(folder, clock) == ["one", "two", "three"]


# -- mistakes in the new code ------------------------------------------------------------------------------


async def mistaken(self: Changing) -> None:
    await self.do("one")
    await self.do("two")
    await self.sleep(60)
    await self.do("three")
    raise NameError("a slip of the pen")


async def test_a_mistake_does_not_fail_a_run_that_slept_behind_it(folder: Folder, clock: ManualClock) -> None:
    """It went on there before, so it is the change that raises: stuck, and mended code goes on."""
    await recorded(folder, clock)
    message = await stuck(folder, clock, mistaken)
    assert message.startswith("run() raised NameError: a slip of the pen where the run went on before; at ")
    assert "raise NameError" in named_line(message)
    assert await mended(folder, clock) == ["one", "two", "three"]


async def test_a_mistake_in_changed_code_does_not_fail_a_run_with_records(
    folder: Folder, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step was in progress when the process died; the fingerprint tells that other code drove the run."""

    async def in_progress(self: Changing) -> str:
        await self.do("one")
        return await self.step(never, "two", name="two")

    async def run(self: Changing) -> Any:
        await self.do("one")
        raise NameError("a slip of the pen")

    async def done(self: Changing) -> str:
        return await self.do("one")

    await recorded(folder, clock, in_progress, seconds=0)
    before = Changing.run
    monkeypatch.setattr(Changing, "run", run)
    assert "run() raised NameError" in await stuck(folder, clock, in_progress)
    monkeypatch.setattr(Changing, "run", before)
    assert await mended(folder, clock, done) == "one"


async def raises_always(self: Changing) -> None:
    raise ValueError("as it is meant")


async def test_what_never_went_on_may_fail(
    folder: Folder, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queued run, a redriven one, and new code behind what is recorded."""

    async def other_helper(self: Changing, name: str) -> str:
        return name

    monkeypatch.setattr(Changing, "max_running", 1)
    CODE[:] = [lambda self: self.step(never, "one", name="one")]
    rt = await folder.open()
    await rt.start(Changing, id="first")
    queued: Run[Any] = await rt.start(Changing, id="queued")
    await settle(rt)
    assert await queued.status() == "queued"
    await folder.crash()
    monkeypatch.setattr(Changing, "helper", other_helper)  # another fingerprint
    CODE[:] = [raises_always]
    rt = await folder.open()
    for id_ in ("first", "queued"):
        with pytest.raises(RunFailed, match="as it is meant") as raised:
            await soon(rt.run(Changing, id_).result())
        assert raised.value.status == "failed"
    run: Run[Any] = rt.run(Changing, "queued")
    await run.redrive()
    with pytest.raises(RunFailed) as raised:
        await soon(run.result())
    assert raised.value.status == "failed"


async def fails_second(self: Changing) -> str:
    await self.do("one")
    try:
        await self.do("two")
    finally:
        await self.do("clean up")
    return "went on"


async def test_redriving_frees_only_what_came_behind_the_failure(folder: Folder, clock: ManualClock) -> None:
    """Clean-up after the failure need not come again; what was recorded before must."""

    async def other_first(self: Changing) -> None:
        await self.do("uno")
        await self.do("two")

    CODE[:] = [fails_second]
    BROKEN.add("two")
    rt = await folder.open()
    run: Run[Any] = await rt.start(Changing, id="r")
    with pytest.raises(RunFailed):
        await play(rt, clock, run)
    BROKEN.clear()
    CODE[:] = [other_first]
    await run.redrive()
    with pytest.raises(RunFailed, match="record 1 of the journal is step one") as raised:
        await play(rt, clock, run)
    assert raised.value.status == "stuck"
    assert await mended(folder, clock, fails_second) == "went on"
    assert SEEN.count("one") == 1


async def test_a_recorded_result_that_the_step_can_t_have_any_more(
    folder: Folder, clock: ManualClock
) -> None:
    """A result that doesn't fit the new annotation is told like other differences."""

    def number() -> int:
        return 7

    def text() -> str:
        return "seven"

    def with_step(function: Callable[[], object]) -> Code:
        async def code(self: Changing) -> object:
            got = await self.step(function, name="it")
            await self.sleep(600)
            return got

        return code

    await recorded(folder, clock, with_step(number), seconds=0)
    message = await stuck(folder, clock, with_step(text))
    assert "record 1 of the journal is step it (use 1), but its recorded result doesn't fit" in message
    assert await mended(folder, clock, with_step(number)) == 7


async def test_a_failed_step_that_is_not_asked_for(folder: Folder, clock: ManualClock) -> None:
    """A failure that run() caught is a record like any other."""

    async def catches(self: Changing) -> str:
        try:
            await self.step(refuse, name="refuse")
        except StepError:
            pass
        await self.sleep(600)
        return "caught"

    await recorded(folder, clock, catches, seconds=0)
    assert "is step refuse (use 1), but run() waits for step one" in await stuck(folder, clock, original)
    assert await mended(folder, clock, catches) == "caught"


def refuse() -> None:
    raise Fatal("no")


def test_the_cases_are_all_used() -> None:
    """Each function of changed code above stands in the table."""
    changed = {
        name
        for name, one in globals().items()
        if inspect.iscoroutinefunction(one) and list(inspect.signature(one).parameters) == ["self"]
    }
    used = {case.code.__name__ for case in CASES}
    used |= {"original", "longer", "beside", "all_at_once", "other_sleep_ahead", "race", "race_turned"}
    used |= {"timeout_after_sleep", "timeout_alone", "fails_second", "mistaken", "raises_always"}
    assert changed == used


async def test_a_result_of_a_stuck_run_while_others_wait_to_be_taken_up(
    folder: Folder, clock: ManualClock
) -> None:
    """It was tried and is not tried again in this opening, so whoever asks for its result is told at once."""

    async def before(self: Changing) -> None:
        await self.do("one")
        await self.step(never, "hang")

    async def after(self: Changing) -> None:
        await self.do("two" if self.id == "a" else "one")
        await self.step(never, "hang")

    CODE[:] = [before]
    rt = await folder.open()
    for name in ("a", "b", "c"):
        await rt.start(Changing, id=name)
    await settle(rt)
    await folder.crash()
    CODE[:] = [after]
    rt = await folder.open(max_running=1)
    await settle(rt)
    assert await rt.run(Changing, "a").status() == "stuck"
    assert rt.engine.places.will_resume(rt.workflow_type(Changing))
    with pytest.raises(RunFailed, match="Divergence"):
        await soon(rt.run(Changing, "a").result())
