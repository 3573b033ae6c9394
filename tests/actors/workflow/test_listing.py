"""actors/workflow/listing.py: `rt.workflows()` lists what is imported."""

from __future__ import annotations

from pathlib import Path

import msgspec

from holdfast import About, Retry, Runtime, Workflow, WorkflowContext, WorkflowInfo, workflow


class Listed(msgspec.Struct):
    """An input."""

    n: int
    text: str = "x"


@workflow(title="Listed as a function", description="Does it.", version="2", author="us", tags=("a", "b"))
async def listed_function(wf: WorkflowContext, input: Listed) -> list[int]:
    """Not this."""
    return [input.n]


class ListedClass(Workflow):
    """The first paragraph,
    as one line.

    Not the second.
    """

    about = About(title="Listed as a class", author="we")
    retry = Retry(2, "5s", "linear")
    step_timeout = "1m"
    max_running = 7

    async def run(self) -> None: ...


class ListedBase(Workflow):
    """A base of others: no run() of its own."""


class ListedOddly(Workflow):
    """Options that are none."""

    about = "odd"  # type: ignore[assignment]  # pyright: ignore
    step_timeout = "long"

    async def run(self) -> None: ...


class ListedBroken(Workflow):
    """Can't be used as it stands."""

    async def run(self, a: int, b: int) -> None: ...


def listed(rt: Runtime, name: str) -> WorkflowInfo:
    """The one of a name."""
    (found,) = [one for one in rt.workflows() if one.name == name and one.module == __name__]
    return found


async def test_functions_and_classes_are_listed(tmp_path: Path) -> None:
    """Used or not, with metadata, schemas and options; nothing is written for it."""
    async with Runtime(tmp_path / "data") as rt:
        function, kind = listed(rt, "listed_function"), listed(rt, "ListedClass")
        assert (function.title, function.description) == ("Listed as a function", "Does it.")
        assert (function.version, function.author, function.tags) == ("2", "us", ("a", "b"))
        assert function.input_schema is not None
        assert function.input_schema["required"] == ["n"]
        assert function.output_schema == {"type": "array", "items": {"type": "integer"}}
        assert (kind.title, kind.description) == ("Listed as a class", "The first paragraph, as one line.")
        assert (kind.input_schema, kind.output_schema) == (None, {"type": "null"})
        options = kind.options
        assert options is not None
        assert (options.retry_limit, options.retry_delay_seconds, options.retry_backoff) == (2, 5.0, "linear")
        assert (options.step_timeout_seconds, options.max_running) == (60.0, 7)
        assert "ListedClass" not in rt.actor_types.stored()
        before = kind.fingerprint
        await (await rt.start(ListedClass)).result()
        assert listed(rt, "ListedClass").fingerprint == before == rt.runs(ListedClass)[0].fingerprint
        names = [one.name for one in rt.workflows()]
        assert names == sorted(names) and "ListedBase" not in names


async def test_one_that_can_not_be_used_says_why(tmp_path: Path) -> None:
    """And keeps none of the others from being listed."""
    async with Runtime(tmp_path / "data") as rt:
        broken = listed(rt, "ListedBroken")
        assert "about must be an About; got 'odd'" in listed(rt, "ListedOddly").problem
    assert "must take one input (or none)" in broken.problem
    assert (broken.options, broken.title) == (None, "ListedBroken")
    msgspec.json.encode(broken)
