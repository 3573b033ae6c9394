"""How type checkers know the input and the result of a workflow class: by its `run()`."""

from __future__ import annotations

from typing import Protocol, TypeVar

In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


class TakesInput(Protocol[In_contra, Out_co]):
    """A workflow whose `run()` takes an input; only for type checkers."""

    async def run(self, input: In_contra, /) -> Out_co: ...


class TakesNothing(Protocol[Out_co]):
    """A workflow whose `run()` takes nothing; only for type checkers."""

    async def run(self) -> Out_co: ...
