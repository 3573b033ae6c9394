"""Errors of a client: what a service in another process answered, or that it didn't; in the tree of
storage/errors.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..storage.errors import HoldfastError

if TYPE_CHECKING:
    from .views import RunError


class ServiceError(HoldfastError):
    """A service that was asked didn't do it, or nobody knows whether it did."""


class ServiceUnreachable(ServiceError):
    """No answer came in time, or the connection broke."""

    def __init__(self, message: str, *, was_sent: bool = True) -> None:
        self.was_sent = was_sent
        """Whether the service may have got the request, and may have done it."""
        super().__init__(message)


class BadAnswer(ServiceError):
    """What answered is no such service, or one that says it in another way."""


class ServiceRefused(ServiceError):
    """The service said no: a problem as RFC 9457 has it."""

    def __init__(self, status: int, detail: str, *, retry_after_seconds: float | None = None) -> None:
        self.status = status
        """The status of HTTP."""
        self.detail = detail
        """What is wrong, in words."""
        self.retry_after_seconds = retry_after_seconds
        """When it may be asked again, if the service said so."""
        super().__init__(f"{status}: {detail}")


class AccessRefused(ServiceRefused):
    """The token is not known there, or not enough for this (401, 403)."""


class NotThere(ServiceRefused):
    """There is no such thing, or none that this token may see (404, 410)."""


class Conflict(ServiceRefused):
    """What is there stands against it: an id in use, a run that has ended (409)."""


class ServiceBusy(ServiceRefused):
    """It was not done now and may be asked for again: too much at once, closing, or no reply yet (429, 502 to
    504).
    """


class ServiceFailed(ServiceRefused):
    """The service failed; its log says why (500, 507)."""


class RunUnsuccessful(ServiceError):
    """The run whose result was asked for did not complete."""

    def __init__(self, run: str, status: str, error: RunError | None) -> None:
        self.run = run
        """Its address: "Workflow/id"."""
        self.status = status
        """failed, cancelled, terminated or stuck."""
        self.error = error
        """Why it failed, where it did."""
        super().__init__(f"run {run} is {status}" + ("" if error is None else f": {error}"))


class ResultLate(ServiceError):
    """What was waited for did not come in time; the run goes on."""


def refused(status: int, detail: str, retry_after_seconds: float | None = None) -> ServiceRefused:
    """The error that a status means."""
    kind = ServiceRefused
    if status in (401, 403):
        kind = AccessRefused
    elif status in (404, 410):
        kind = NotThere
    elif status == 409:
        kind = Conflict
    elif status in (429, 502, 503, 504):
        kind = ServiceBusy
    elif status >= 500:
        kind = ServiceFailed
    return kind(status, detail, retry_after_seconds=retry_after_seconds)
