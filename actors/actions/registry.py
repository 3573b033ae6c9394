"""Which action a name means.

Importing a module is enough: an action registers itself by being defined.  One that is defined again in the
same place replaces the former one.
"""

from __future__ import annotations

import importlib
import weakref
from typing import TYPE_CHECKING, Any

from ..errors import UnknownAction

if TYPE_CHECKING:
    from .action import Action

_actions: dict[str, list[weakref.ref[Action[..., object]]]] = {}
# Its actions are there without an import, but only looked at when a name is asked for.
_BUILT_IN = f"{__package__}.built_in"


def register_action(action: Action[..., Any]) -> None:
    """Remember an action by its name."""
    place = action.place
    kept = [
        known
        for known in _actions.get(action.name, [])
        if (other := known()) is not None and other.place != place
    ]
    _actions[action.name] = [*kept, weakref.ref(action)]


def find_action(name: str) -> Action[..., object]:
    """The only action with this name; raises `UnknownAction` when there is none, or several."""
    found = _alive(name)
    if not found:
        importlib.import_module(_BUILT_IN)
        found = _alive(name)
    if len(found) > 1:
        raise UnknownAction(
            f"the action {name!r} is registered twice, in {' and '.join(one.place for one in found)}; set "
            f"`name` in one of them"
        )
    if not found:
        known = ", ".join(sorted(one for one in _actions if _alive(one)))
        raise UnknownAction(
            f"no action named {name!r} is imported in this process (there are {known}); import the module "
            f"that defines it"
        )
    return found[0]


def registered_actions() -> list[Action[..., object]]:
    """All actions that are imported, by name."""
    importlib.import_module(_BUILT_IN)
    return [action for name in sorted(_actions) for action in _alive(name)]


def _alive(name: str) -> list[Action[..., object]]:
    return [action for known in _actions.get(name, []) if (action := known()) is not None]
