"""Errors of Holdfast, told to clients of one's own endpoints as the service tells its own (refusals.py)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from .refusals import refusal


async def error_handler(request: Request, error: Exception) -> Response:
    """An exception handler of Starlette's or FastAPI's: a problem, with the status that the error has.

    app.add_exception_handler(HoldfastError, error_handler)
    """
    return refusal(error)
