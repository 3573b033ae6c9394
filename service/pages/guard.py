"""What stands before every page: is somebody signed in, may they, is the form one of ours.

GET   no session -> to the sign-in page, and back from there
POST  an origin that isn't ours, no form token or another one -> 403
any   what a page raises -> a page that says it, with the status that the API has for it
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ..access import Role
from ..bodies import Form, read_form
from ..origins import is_allowed
from ..refusals import refusal
from .sessions import COOKIE, Session, Sessions
from .shell import Shell, base_of, here_of

Page: TypeAlias = Callable[[Request, Session], Awaitable[Response]]
Deed: TypeAlias = Callable[[Request, Session, Form], Awaitable[Response]]
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class _Problem(msgspec.Struct):
    title: str
    status: int
    detail: str


class Guard:
    """Stands before the pages of one service."""

    def __init__(
        self, shell: Shell, sessions: Sessions, origins: Collection[str], max_body_bytes: int
    ) -> None:
        self.shell = shell
        self.sessions = sessions
        # That every page may ask the API doesn't make every page's forms ours.
        self._origins = [one for one in origins if one != "*"]
        self._max_body_bytes = max_body_bytes

    def session(self, request: Request) -> Session | None:
        """Who is signed in here."""
        return self.sessions.find(request.cookies.get(COOKIE, ""))

    def page(self, page: Page) -> Endpoint:
        """A page for whoever is signed in."""

        async def endpoint(request: Request) -> Response:
            session = self.session(request)
            if session is None:
                return self._to_sign_in(request, here_of(request))
            try:
                return await page(request, session)
            except Exception as error:
                return self.refused(request, session, error)

        return endpoint

    def deed(self, deed: Deed, role: Role = "operator") -> Endpoint:
        """What a form asks for, by somebody who may."""

        async def endpoint(request: Request) -> Response:
            session = self.session(request)
            if session is None:
                return self._to_sign_in(request, f"{base_of(request)}/")
            try:
                form = await self.form(request)
                if not session.knows(form.get("form_token")):
                    raise PermissionError("this form is of another session; load its page again")
                session.caller.must_be(role)
                return await deed(request, session, form)
            except Exception as error:
                return self.refused(request, session, error)

        return endpoint

    async def form(self, request: Request) -> Form:
        """The fields of a form that was sent from a page of this host; raises `PermissionError`."""
        if not is_allowed(request, self._origins):
            raise PermissionError("a form of a page of another host")
        return await read_form(request, self._max_body_bytes)

    def refused(self, request: Request, session: Session | None, error: Exception) -> Response:
        """A page that says why there is none."""
        told = msgspec.json.decode(refusal(error).body, type=_Problem)
        response = self.shell.page(
            request, "refused.html", session, {"title": told.title, "problem": told}, told.status
        )
        if told.status == HTTPStatus.SERVICE_UNAVAILABLE:
            response.headers["Retry-After"] = "5"
        return response

    def _to_sign_in(self, request: Request, back: str) -> Response:
        to = f"{base_of(request)}/sign-in?to={quote(back, safe='')}"
        return self.shell.seal(RedirectResponse(to, HTTPStatus.SEE_OTHER))


def see(address: str) -> Response:
    """What a form is answered with: look there."""
    return RedirectResponse(address, HTTPStatus.SEE_OTHER)
