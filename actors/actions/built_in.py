"""Actions that are there: log_event, emit, notify, sleep, approve; `http` is in http_action.py.

`sleep`, `emit` and `approve` are the run's own: in run(), and as nodes of a graph, they are no steps but what
`self.sleep`, `self.emit` and `self.wait_event` are.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

import msgspec

from ...runtime.durations import to_seconds
from ...storage.errors import CallerError
from .action import Action, action
from .context import ActionContext
from .http_action import http

if TYPE_CHECKING:
    from ..workflow.workflow import Workflow

__all__ = ["Approval", "Notification", "Notifier", "approve", "emit", "http", "log_event", "notify", "sleep"]

Level = Literal["debug", "info", "warning", "error"]
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_log = logging.getLogger("holdfast.action")


# -- log_event ---------------------------------------------------------------------------------------------


@action
def log_event(
    context: ActionContext, message: str, level: Level = "info", fields: dict[str, object] | None = None
) -> None:
    """Write a line to the log, with run, step, tenant and correlation id as its fields."""
    extra = {**context.log_fields(), "fields": fields or {}}
    _log.log(_LEVELS[level], "%s", message, extra=extra)


# -- notify ------------------------------------------------------------------------------------------------


class Notification(msgspec.Struct, frozen=True):
    """What is to be told to somebody."""

    to: str
    text: str
    subject: str = ""
    idempotency_key: str = ""
    """The same in all attempts: whoever delivers can leave out what was delivered."""
    tenant: str | None = None


class Notifier(ABC):
    """How notifications leave; an object of yours in the runtime's `deps`."""

    @abstractmethod
    async def notify(self, notification: Notification) -> None:
        """Deliver; raise when that failed, and it is tried again."""


@action
async def notify(context: ActionContext, to: str, text: str, subject: str = "") -> None:
    """Tell somebody something, through the `Notifier` in the runtime's deps."""
    notifier = context.deps.get(Notifier)  # type: ignore[type-abstract]  # any that is derived from it
    await notifier.notify(Notification(to, text, subject, context.idempotency_key, context.tenant))


# -- what the run does itself ------------------------------------------------------------------------------


async def _sleep(duration: str | float) -> None:
    """Wait; in a run durably."""
    await asyncio.sleep(to_seconds(duration, what="sleep"))


async def _sleep_in_run(workflow: Workflow, duration: str | float) -> None:
    await workflow.sleep(duration)


async def _emit(name: str, data: object = None) -> None:
    """Tell the run's progress to those who follow it."""
    raise CallerError(f"emit({name!r}): only a run has followers; use it in run(), or as a node of a graph")


async def _emit_in_run(workflow: Workflow, name: str, data: object) -> None:
    workflow.emit(name, data)


class Approval(msgspec.Struct, frozen=True):
    """What somebody decided."""

    approved: bool
    by: str | None = None
    """The user of the event."""
    note: str = ""


async def _approve(subject: str, timeout: str | float | None = None) -> Approval:
    """Wait until somebody sends the run the event `approve SUBJECT` or `reject SUBJECT`."""
    raise CallerError(f"approve({subject!r}): only a run can wait; use it in run(), or as a node of a graph")


async def _approve_in_run(workflow: Workflow, subject: str, timeout: str | float | None) -> Approval:
    yes, no = f"approve {subject}", f"reject {subject}"
    workflow.emit("waits for approval", {"subject": subject})
    event = await workflow.wait(yes, no, timeout=timeout)
    return Approval(event.name == yes, event.user, event.payload if isinstance(event.payload, str) else "")


approve = Action[[str, str | float | None], Approval](_approve, name="approve", in_run=_approve_in_run)
sleep = Action[[str | float], None](_sleep, name="sleep", in_run=_sleep_in_run)
emit = Action[[str, object], None](_emit, name="emit", in_run=_emit_in_run)
