"""Runs for pages: the rows of a listing, and the run that an address names, for whoever may see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ...actors.run_info import RunInfo, run_info
from ...actors.workflow.run_index import RunFilter, page_runs, run_place
from ..api.finding import find_run
from .addresses import address_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from ...actors.handle import Run
    from ...actors.system import Runtime
    from ..access import Caller


class RunRow(msgspec.Struct, frozen=True):
    """A run in a listing, and where its page is."""

    info: RunInfo
    address: str


def rows(
    runtime: Runtime, wanted: RunFilter, *, limit: int, newest: bool = True, after: str | None = None
) -> tuple[list[RunRow], str | None]:
    """A page of the runs that a filter means, and where the next one begins.

    It may be short though there is a next one, when few of many are meant.
    """
    place = None if after is None else run_place(after)
    found, following = page_runs(runtime, wanted, limit=limit, reverse=newest, after=place)
    shown = [RunRow(run_info(ref, head), address_of(ref)) for ref, head in found]
    return shown, None if following is None else following.text()


async def run_of(runtime: Runtime, caller: Caller, request: Request) -> Run[Any]:
    """The run that an address names; raises `RunNotFound`, also for one of another tenant."""
    path = request.path_params
    return await find_run(runtime, caller, path["workflow"], path["id"])
