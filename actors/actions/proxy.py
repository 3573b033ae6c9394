"""`self.actions`: actions by name, in run()."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

from .registry import find_action

if TYPE_CHECKING:
    from ..workflow.workflow import Workflow


class ActionCall(Protocol):
    """An action of a run, by name; for its types use `run_action` with the action itself."""

    def __call__(self, *args: object, **parameters: object) -> Awaitable[object]: ...


class Actions:
    """`await self.actions.charge_card(cents=500)` is a step named after the action.

    Raises `UnknownAction` and `InvalidParameters` before anything runs.
    """

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow

    def __getattr__(self, name: str) -> ActionCall:
        if name.startswith("__"):  # asked by copy and the like; no action has such a name
            raise AttributeError(name)
        action = find_action(name)

        def call(*args: object, **parameters: object) -> Awaitable[object]:
            return action.request(self._workflow, args, parameters)

        return call
