"""actors/actions: what an action is, how its parameters are checked, and how a run runs it."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Annotated, assert_type

import msgspec
import pytest

from holdfast import (
    Action,
    ActionContext,
    CallerError,
    Fatal,
    Retry,
    RunFailed,
    Runtime,
    StepError,
    Workflow,
    action,
)
from holdfast.actions import find_action, registered_actions
from holdfast.actors.errors import InvalidAction, InvalidParameters, UnknownAction
from holdfast.actors.workflow.journal import StepDone
from holdfast.runtime.clock import ManualClock
from holdfast.testing import Crash, Storm, check_replay, simulate


class Card(msgspec.Struct):
    """What a customer pays with."""

    number: str
    limit: int = 100


@action
async def charge_card(context: ActionContext, cents: int, currency: str = "EUR") -> str:
    """Charge the customer's card.

    Whatever stands further down is no part of the description.
    """
    return f"{cents} {currency} {context.idempotency_key}"


@action(name="pack_parcel", description="Pack it.", retry=Retry(2, "1s"), timeout="1m")
def pack(weights: list[int], *, note: Annotated[str, msgspec.Meta(description="on the parcel")] = "") -> int:
    return sum(weights) + len(note)


@action
def open_card(card: Card) -> int:
    """Open it."""
    return card.limit


@action(thread=True)
def in_thread(context: ActionContext) -> list[object]:
    """Run in a thread."""
    return [threading.current_thread() is not threading.main_thread(), context.execution_id]


# -- what it is --------------------------------------------------------------------------------------------


def test_description_and_parameters_come_from_the_function() -> None:
    """Name, first paragraph, and each parameter with type, required and default; the context is none."""
    told = charge_card.info()
    assert (told.name, told.description) == ("charge_card", "Charge the customer's card.")
    assert [(one.name, one.type, one.required, one.default) for one in told.parameters] == [
        ("cents", "int", True, None),
        ("currency", "str", False, "EUR"),
    ]
    note = pack.parameters[1]
    assert (note.name, note.type, note.description) == ("note", "str", "on the parcel")
    assert (pack.name, pack.description) == ("pack_parcel", "Pack it.")


def test_schema_is_that_of_an_object_of_the_parameters() -> None:
    """JSON Schema, with structs below $defs."""
    schema = charge_card.schema()
    assert schema["properties"] == {
        "cents": {"type": "integer"},
        "currency": {"type": "string", "default": "EUR"},
    }
    assert (schema["required"], schema["additionalProperties"]) == (["cents"], False)
    assert schema["description"] == "Charge the customer's card."
    assert open_card.schema()["properties"] == {"card": {"$ref": "#/$defs/Card"}}


def test_actions_are_found_by_name() -> None:
    """Defining one registers it; those that come with the library are there too."""
    assert find_action("charge_card") is charge_card
    names = [one.name for one in registered_actions()]
    assert {"charge_card", "pack_parcel", "log_event", "emit", "notify", "sleep", "http"} <= set(names)
    assert names == sorted(names)
    with pytest.raises(UnknownAction, match=r"no action named 'nothing_like_it'.*charge_card"):
        find_action("nothing_like_it")


def test_two_actions_of_one_name_are_told_when_it_is_asked_for() -> None:
    """Both places are named; the same place again is a replacement."""

    def define() -> Action[[], None]:
        @action(name="twice_defined")
        def once() -> None: ...

        return once

    first, second = define(), define()
    assert find_action("twice_defined") is second is not first

    @action(name="twice_defined")
    def other() -> None: ...

    with pytest.raises(UnknownAction, match=r"registered twice.*define.*other"):
        find_action("twice_defined")
    del other, first, second


def test_functions_that_can_be_no_action_are_refused() -> None:
    """Each with its reason, where it is decorated."""

    def stars(*many: int) -> None: ...
    def late(cents: int, context: ActionContext) -> None: ...
    def odd(value: dict[str, Ellipsis]) -> None: ...  # type: ignore[valid-type]
    async def slow() -> None: ...

    with pytest.raises(InvalidAction, match=r"action stars takes \*many"):
        action(stars)
    with pytest.raises(InvalidAction, match=r"the context \(context\) must be the first parameter"):
        action(late)
    with pytest.raises(InvalidAction, match="parameter value has a type that can't be checked"):
        action(odd)
    with pytest.raises(InvalidAction, match="slow is async, so it can't run in a thread"):
        action(thread=True)(slow)
    with pytest.raises(InvalidAction, match="must be an identifier"):
        action(name="charge card")(slow)
    with pytest.raises(InvalidAction, match=r"made of a function \(def or async def\); got <built-in"):
        action(len)
    with pytest.raises(InvalidAction, match="'retry' or 'fail'; got 'never'"):
        action(on_interrupted="never")(slow)  # type: ignore[call-overload]  # pyright: ignore


# -- how parameters are checked ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cents": "3"}, r"action charge_card: parameter cents: expected int, got '3' of type str"),
        ({"cents": 3, "colour": 1}, r"action charge_card has no parameter colour; it takes cents, currency"),
        ({"currency": "USD"}, r"action charge_card: parameter cents is missing; expected int, got currency"),
        ({}, r"parameter cents is missing; expected int, got no parameters"),
    ],
)
async def test_bad_parameters_are_told_before_anything_runs(given: dict[str, object], message: str) -> None:
    """Action, parameter, expected, got."""
    with pytest.raises(InvalidParameters, match=message):
        await charge_card(**given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_parameters_are_copied_and_made_into_their_types() -> None:
    """A handler shares nothing with its caller; what the codec makes of a value is what it gets."""
    weights = [1, 2]

    @action
    def take(weights: list[int], share: float) -> list[object]:
        weights.append(3)
        return [weights, share]

    assert await take(weights, 1) == [[1, 2, 3], 1.0]
    assert weights == [1, 2]
    with pytest.raises(InvalidParameters, match="at most 2 parameters by position; got 3"):
        await take([], 1.0, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(InvalidParameters, match="parameter weights was given twice"):
        await take([], 1.0, weights=[])  # type: ignore[misc]  # pyright: ignore[reportCallIssue]


async def test_a_mutable_default_is_not_shared() -> None:
    """Each use has a copy."""

    @action
    def collect(found: list[int] = []) -> list[int]:  # noqa: B006
        found.append(1)
        return found

    assert [await collect(), await collect()] == [[1], [1]]


# -- in a run ----------------------------------------------------------------------------------------------


class Shop(Workflow):
    """All ways to run an action in run()."""

    retry = Retry(1, "1s")

    async def run(self, cents: int) -> list[object]:
        typed = await self.run_action(charge_card, cents, currency="USD")
        assert_type(typed, str)
        named = await self.actions.charge_card(cents=cents)
        stepped = await self.step(charge_card, cents, "CHF")
        packed = await self.run_action(pack.with_options(step="pack-it"), [cents], note="x")
        assert_type(packed, int)
        refused = ""
        try:
            await self.actions.charge_card(cents="many")
        except InvalidParameters as error:
            refused = str(error)
        return [typed, named, stepped, packed, refused]


def test_an_action_is_a_step_named_after_it() -> None:
    """By object or by name; a parameter that doesn't fit is told in run(), and is no step."""
    with simulate() as sim:
        run = sim.start(Shop, 5, id="s-1")
        typed, named, stepped, packed, refused = sim.result(run)
        start = str(typed).split()[-1].removesuffix("1")
        assert re.fullmatch(r"Shop/s-1@1-[0-9a-f]{12}#charge_card#", start)
        assert [typed, named, stepped] == [f"5 USD {start}1", f"5 EUR {start}2", f"5 CHF {start}3"]
        assert packed == 6
        assert "parameter cents: expected int, got 'many'" in str(refused)
        steps = [(record.name, record.nth) for record in sim.history(run) if isinstance(record, StepDone)]
        assert steps == [("charge_card", 1), ("charge_card", 2), ("charge_card", 3), ("pack-it", 1)]


async def test_the_context_tells_the_execution(folder: Path) -> None:
    """Tenant, run, step, event, attempt, correlation id; a thread has it too."""
    seen: list[ActionContext] = []

    @action(retry=Retry(1, 0))
    async def look(context: ActionContext) -> None:
        """Look."""
        seen.append(context)
        context.logger.info("looked")
        if context.attempt == 1:
            raise ConnectionError("again")

    class Looking(Workflow):
        async def run(self) -> list[object]:
            await self.run_action(look.with_options(event_id="e-7"))
            return await self.run_action(in_thread)

    async with Runtime(folder, deps=[Card("4")]) as rt:
        run = await rt.start(Looking, id="l", tenant="acme", correlation_id="c-1")
        assert await run.result() == [True, "l"]
        first, second = seen
        assert first.idempotency_key == second.idempotency_key
        assert (first.action, first.workflow, first.execution_id, first.step) == (
            "look",
            "Looking",
            "l",
            "look",
        )
        assert (first.tenant, first.event_id, first.correlation_id) == ("acme", "e-7", "c-1")
        assert (first.attempt, second.attempt) == (1, 2)
        assert first.deps.get(Card).number == "4"
        assert first.runtime is rt
        assert first.log_fields()["run_id"] == "Looking/l"


async def test_a_plain_call_has_a_key_of_its_own_and_no_runtime() -> None:
    """So a handler can be called in a test as the function that it is."""
    first, second = await charge_card(3), await charge_card(3)
    assert first.startswith("3 EUR ") and first != second
    seen: list[ActionContext] = []

    @action
    def look(context: ActionContext) -> None:
        seen.append(context)

    await look()
    with pytest.raises(CallerError, match="called as a plain function, so there is no runtime"):
        seen[0].deps  # noqa: B018
    assert pack.function([1, 2], note="abc") == 6


def test_keys_of_calls_in_a_body_are_told_apart_and_stay() -> None:
    """The how-manyth call with the same parameters, in each attempt anew."""
    keys: list[list[str]] = []

    @action
    async def told(context: ActionContext, n: int) -> str:
        return context.idempotency_key

    async def body() -> None:
        keys.append([await told(1), await told(1), await told(2)])
        if len(keys) == 1:
            raise ConnectionError("again")

    class Nesting(Workflow):
        async def run(self) -> None:
            await self.step(body)

    with simulate() as sim:
        sim.result(sim.start(Nesting, id="n"))
    first, second = keys
    assert first == second
    assert len(set(first)) == 3
    assert all(re.match(r"Nesting/n@1-[0-9a-f]{12}#body#1/told/", key) for key in first)


async def test_another_run_of_the_same_id_has_other_keys(folder: Path, clock: ManualClock) -> None:
    """A replaced run's effects are not taken for those of its successor."""

    class Keyed(Workflow):
        async def run(self) -> str:
            return await self.run_action(charge_card, 1)

    async with Runtime(folder, clock=clock) as rt:  # in the same millisecond
        first = await (await rt.start(Keyed, id="k")).result()
        second = await (await rt.start(Keyed, id="k", on_conflict="replace")).result()
        assert first != second


def test_a_run_that_continues_as_new_has_other_keys() -> None:
    """Though its id, its steps and, here, even the time are the same."""

    class Again(Workflow):
        async def run(self, before: list[str]) -> list[str]:
            keys = [*before, await self.run_action(charge_card, 1)]
            if len(keys) < 3:
                self.continue_as_new(keys)
            return keys

    with simulate() as sim:
        keys = sim.result(sim.start(Again, []))
    assert len(set(keys)) == 3


def test_long_keys_become_short_ones() -> None:
    """What other systems take as a header: at most 255 characters of ASCII."""
    with simulate() as sim:
        key = str(sim.result(sim.start(Shop, 5, id="ß" * 100))[0]).split()[-1]
    assert len(key) == 40 and key.isascii()


async def test_a_parameter_that_does_not_fit_fails_a_plain_step_at_once(folder: Path) -> None:
    """`self.step(action, ...)` is checked by its body: one attempt, since another would end alike."""

    class Wrong(Workflow):
        async def run(self) -> None:
            await self.step(charge_card, "many")  # type: ignore[arg-type]  # pyright: ignore

    async with Runtime(folder) as rt:
        with pytest.raises(RunFailed, match=r"tried once and failed: InvalidParameters: .*parameter cents"):
            await (await rt.start(Wrong, id="w")).result()


def test_actions_outside_of_a_run_are_refused_in_run(folder: Path) -> None:
    """`once`, and a plain call, in run() would run again on each replay."""

    class Sly(Workflow):
        async def run(self, plainly: bool) -> str:
            return await (charge_card(3) if plainly else charge_card.once(self.runtime, "k", 3))

    with simulate() as sim:
        with pytest.raises(RunFailed, match="outside of a step, so it would run again on each replay"):
            sim.result(sim.start(Sly, False))
        with pytest.raises(RunFailed, match="as a plain function, so it would run again on each replay"):
            sim.result(sim.start(Sly, True))


def test_a_recorded_action_never_runs_again() -> None:
    """P5 for actions: whatever crashes come in between, the run ends alike."""
    check_replay(Shop, [5], Storm(crashes=tuple(Crash("commit", n) for n in range(1, 5))))
    check_replay(
        Shop, [5], Storm(crashes=(Crash("step", 1, "after", "charge_card"), Crash("step", 1, "before")))
    )


def test_fatal_and_failing_actions_fail_as_steps_do() -> None:
    """A StepError with cause and attempts; `Fatal` is tried once."""

    @action
    def refuse(text: str) -> None:
        raise Fatal(text)

    class Refusing(Workflow):
        async def run(self) -> list[object]:
            try:
                await self.run_action(refuse, "no")
            except StepError as error:
                return [error.step, error.attempts, str(error.cause)]
            return []

    with simulate() as sim:
        assert sim.result(sim.start(Refusing)) == ["refuse", 1, "Fatal: no"]
