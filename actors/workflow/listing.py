"""What a listing of workflows shows of each: what people are told, the schemas, the options.

Being imported is being registered, so all that is imported is listed, used or not; nothing is written for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import cast

import msgspec

from ...runtime.registry import actor_classes, type_name
from ...storage.errors import HoldfastError
from ..json_schema import json_schema
from .about import About
from .workflow import Workflow
from .workflow_type import WorkflowType


class WorkflowOptions(msgspec.Struct, frozen=True):
    """Options of a workflow's class."""

    retry_limit: int
    retry_delay_seconds: float
    retry_backoff: str
    step_timeout_seconds: float | None
    max_running: int | None
    max_steps: int
    deadline_seconds: float | None


class WorkflowInfo(msgspec.Struct, frozen=True):
    """A workflow as a listing shows it."""

    name: str
    title: str
    description: str
    version: str
    author: str
    tags: tuple[str, ...]
    module: str
    input_schema: dict[str, object] | None = None
    """JSON Schema of the input; None where it takes none, or a type of the user's own without a schema."""
    output_schema: dict[str, object] | None = None
    options: WorkflowOptions | None = None
    fingerprint: str = ""
    problem: str = ""
    """Why it can't be used as it stands; then the fields above are empty."""


def list_workflows(known: Mapping[type, object]) -> list[WorkflowInfo]:
    """All workflows that are imported, by name; `known` are those that the runtime has read already."""
    return [_info(one, known.get(one)) for one in sorted(workflow_classes(), key=type_name)]


def workflow_classes() -> list[type[Workflow]]:
    """The classes of all workflows that are imported; a base without a run() of its own is none."""
    classes = [one for one in actor_classes() if issubclass(one, Workflow) and one is not Workflow]
    return [one for one in classes if inspect.getattr_static(one, "run", None) is not None]


def _info(workflow: type[Workflow], known: object) -> WorkflowInfo:
    name = type_name(workflow)
    given = cast("object", workflow.about)
    about = given if isinstance(given, About) else About()
    told = WorkflowInfo(
        name,
        about.title or name,
        about.description or _first_words(workflow),
        about.version,
        about.author,
        about.tags,
        workflow.__module__,
    )
    try:
        # A number that no type has: this one is only read, and not kept.
        kind = known if isinstance(known, WorkflowType) else WorkflowType(workflow, 0)
    except HoldfastError as error:
        return msgspec.structs.replace(told, problem=str(error))
    options = WorkflowOptions(
        kind.retry.limit,
        kind.retry.delay_seconds,
        kind.retry.backoff,
        kind.step_timeout_seconds,
        kind.max_running,
        kind.max_steps,
        kind.deadline_seconds,
    )
    return msgspec.structs.replace(
        told,
        input_schema=_schema(kind.input_hint) if kind.takes_input else None,
        output_schema=_schema(kind.output_hint),
        options=options,
        fingerprint=kind.fingerprint,
    )


def _schema(hint: object) -> dict[str, object] | None:
    try:
        return json_schema(hint)
    except TypeError:
        return None


def _first_words(workflow: type[Workflow]) -> str:
    """The first paragraph of a docstring of its own, as one line."""
    text = (workflow.__dict__.get("__doc__") or "").strip()
    return " ".join(text.partition("\n\n")[0].split())
