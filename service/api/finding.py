"""Which run, and which runs, somebody means: for HTTP and the pages alike.

    an address      -> `find_run`     -> the run, if it is there for who asks
    names of labels -> `meant_runs`   -> a filter of the library

Promise: who is bound to a tenant reaches that tenant's runs alone; others' are not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from ...actors.errors import RunNotFound
from ...actors.workflow.workflow import Workflow
from ...runtime.registry import find_actor_class
from ...storage.errors import ActorError, CallerError
from .addresses import key_of
from .asked import tenant_of

if TYPE_CHECKING:
    from ...actors.handle import Run
    from ...actors.system import Runtime
    from ...actors.workflow.head import RunStatus
    from ...actors.workflow.run_index import RunFilter
    from ..access import Caller


def find_workflow(runtime: Runtime, name: str) -> type[Workflow]:
    """The workflow with a name; raises `RunNotFound`."""
    found = find_actor_class(name)
    if found is None or not issubclass(found, Workflow):
        raise RunNotFound(f"no workflow {name!r:.200} is imported here")
    try:
        runtime.workflow_type(found)
    except ActorError as error:  # a base class, say: nothing that can be started
        raise RunNotFound(f"{name!r:.200} is no workflow that can run: {error}") from error
    return found


async def find_run(runtime: Runtime, caller: Caller, workflow: str, address: str) -> Run[Any]:
    """The run that an address names; raises `RunNotFound`, also for one of another tenant."""
    run: Run[Any] = runtime.run(cast("Any", find_workflow(runtime, workflow)), key_of(address))
    if caller.tenant is not None:
        run = run.of_tenant(caller.tenant)
    await run.info()
    return run


def meant_runs(
    runtime: Runtime,
    caller: Caller,
    *,
    workflow: str | None,
    statuses: Sequence[RunStatus],
    state: str | None,
    ref_type: str | None,
    ref_id: str | None,
    tenant: str | None,
    tag: str | None,
) -> RunFilter:
    """The filter that somebody asks for by names; `tag` is NAME:VALUE.

    Raises `CallerError`, `RunNotFound` for the workflow, or a `PermissionError` for another tenant.
    """
    if (ref_type is None) != (ref_id is None):
        raise CallerError("a ref is asked for with its type and its id: ref_type and ref_id")
    name, separator, value = (tag or "").partition(":")
    if tag is not None and not (name and separator):
        raise CallerError(f"a tag is asked for as NAME:VALUE; got {tag!r:.100}")
    return runtime.run_filter(
        None if workflow is None else find_workflow(runtime, workflow),
        status=statuses or None,
        state=state,
        ref=None if ref_type is None else (ref_type, cast("str", ref_id)),
        tenant=tenant_of(caller, tenant),
        tag=None if tag is None else (name, value),
    )
