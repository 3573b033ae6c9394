"""What the command line means by code: `module`, `module:Workflow`, `package:module`, `module:function` or
`module:runtime`.

Importing a module is enough for its workflows: the classes register themselves.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import TypeGuard, cast

from ..runtime.error_text import error_text
from ..runtime.registry import find_actor_class, type_name
from ..storage.errors import CallerError
from .system import Runtime
from .workflow.workflow import Workflow


def import_target(text: str) -> list[type[Workflow]]:
    """Import what a target names; the workflow that it names, else none (all that is imported counts).

    Raises `CallerError` when there is no such module or name, and when importing it fails.
    """
    found = _named(text)
    return [] if isinstance(found, ModuleType) else [found]


def workflow_target(text: str) -> type[Workflow]:
    """Import what a target names: one workflow, or a module with one.

    Raises `CallerError` as `import_target` does, and when the module has none or several.
    """
    found = _named(text)
    if not isinstance(found, ModuleType):
        return found
    there = [one for one in cast("Iterable[object]", vars(found).values()) if _is_workflow(one)]
    # What a module imports counts when it defines none.
    here = [one for one in there if one.__module__ == found.__name__] or there
    names = sorted({one.__name__ for one in here})
    if len(names) != 1:
        raise CallerError(
            f"{text}: module {found.__name__} has {len(names) or 'no'} workflows; name one, as in "
            f"{found.__name__}:{names[0] if names else 'Name'}" + (f" ({', '.join(names)})" if names else "")
        )
    return here[0]


def workflow_named(text: str, name: str) -> type[Workflow]:
    """The workflow with a name, after importing a target; raises `CallerError` when there is none."""
    named = import_target(text)
    found = named[0] if named else find_actor_class(name)
    if found is None or not issubclass(found, Workflow) or type_name(found) != name:
        raise CallerError(f"{text}: importing it brings no workflow named {name!r}")
    return found


def call_target(text: str) -> list[object]:
    """Call the function `module:function` without arguments; the objects that it returns.

    Raises `CallerError` when there is no such function, and when it fails.
    """
    module_name, _, name = text.partition(":")
    function: object = getattr(_import(module_name, text), name, None)
    if not callable(function):
        raise CallerError(f"{text}: expected module:function; got {function!r}")
    try:
        return list(cast("Iterable[object]", function()))
    except SystemExit as error:
        raise CallerError(f"{text}: calling it ended the process (SystemExit: {error})") from error
    except Exception as error:  # of the user's own code: the command can't go on, and says so
        raise CallerError(f"{text}: calling it raised {error_text(error)}") from error


def runtime_target(text: str) -> Runtime:
    """The runtime that a module holds, `module:name`; raises `CallerError` when there is none."""
    module_name, _, name = text.partition(":")
    found: object = getattr(_import(module_name, text), name, None)
    if not isinstance(found, Runtime):
        raise CallerError(
            f"{text}: expected module:name of a Runtime that the module makes, like app:rt; "
            f"got {found!r:.200}"
        )
    return found


def runtime_or_folder(text: str) -> Runtime:
    """The runtime `module:name`, or one on the folder of this name; raises `CallerError`."""
    module, colon, _ = text.partition(":")
    is_module = colon and all(part.isidentifier() for part in module.split("."))
    return runtime_target(text) if is_module and not Path(text).exists() else Runtime(text)


def function_target(text: str) -> Callable[[Runtime], Awaitable[object] | None]:
    """The function `module:function`, which takes a runtime; raises `CallerError` when there is none."""
    module_name, _, name = text.partition(":")
    found: object = getattr(_import(module_name, text), name, None)
    if not callable(found):
        raise CallerError(f"{text}: expected module:function; got {found!r:.200}")
    return cast("Callable[[Runtime], Awaitable[object] | None]", found)


def _named(text: str) -> ModuleType | type[Workflow]:
    module_name, _, name = text.partition(":")
    module = _import(module_name, text)
    if not name:
        return module
    found: object = getattr(module, name, None)
    if found is None and hasattr(module, "__path__"):
        found = _import(f"{module_name}.{name}", text)
    if isinstance(found, ModuleType) or _is_workflow(found):
        return found
    raise CallerError(f"{text}: module {module_name} has no workflow named {name!r}; got {found!r}")


def _is_workflow(value: object) -> TypeGuard[type[Workflow]]:
    return isinstance(value, type) and issubclass(value, Workflow) and value is not Workflow


def _import(name: str, text: str) -> ModuleType:
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise CallerError(f"{text}: {name!r} is no name of a module; give it as in an import statement")
    package, _, last = name.rpartition(".")
    if package and not hasattr(_import(package, text), "__path__") and name not in sys.modules:
        raise CallerError(f"{text}: {package} is a module and no package, so there is no {last!r} in it")
    try:
        found = importlib.util.find_spec(name)
    except ValueError as error:
        raise CallerError(f"{text}: there is no module {name!r} ({error})") from error
    if found is None and name not in sys.modules:
        raise CallerError(f"{text}: there is no module {name!r}; give its name as in an import statement")
    try:
        return importlib.import_module(name)
    except SystemExit as error:  # the command would end as if all were well
        raise CallerError(
            f"{text}: importing {name} ended the process (SystemExit: {error}); what a script does belongs "
            f"below `if __name__ == '__main__'`"
        ) from error
    except Exception as error:  # of the module's own code: the command can't go on, and says so
        raise CallerError(f"{text}: importing {name} raised {error_text(error)}") from error
