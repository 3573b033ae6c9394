"""Signing in with a token, signing out, and the colours that somebody wants."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ..access import Access, NoToken
from ..bodies import Form
from .guard import Guard, see
from .sessions import COOKIE, SESSION_SECONDS, Session
from .shell import THEME_COOKIE, THEMES, base_of, local_address

_YEAR_SECONDS = 365 * 24 * 3600


class SignIn:
    """The page that asks for a token, and the forms that stand on all pages."""

    def __init__(self, guard: Guard, access: Access) -> None:
        self._guard = guard
        self._access = access

    async def show(self, request: Request) -> Response:
        """The form."""
        return self._show(request, request.query_params.get("to", ""))

    def _show(self, request: Request, to: str, refused: str = "") -> Response:
        told = {"title": "Sign in", "to": local_address(to, base_of(request)), "refused": refused}
        status = HTTPStatus.FORBIDDEN if refused else HTTPStatus.OK
        return self._guard.shell.page(request, "sign_in.html", None, told, status)

    async def sign_in(self, request: Request) -> Response:
        """Open a session for whoever has a token."""
        guard = self._guard
        try:
            form = await guard.form(request)
        except Exception as error:
            return guard.refused(request, None, error)
        to = form.get("to")
        try:
            caller = self._access.known(form.get("token"))
        except NoToken:
            return self._show(request, to, "This token is not known here.")
        guard.sessions.close(request.cookies.get(COOKIE, ""))  # whoever was signed in here before
        base = base_of(request)
        response = RedirectResponse(local_address(to, base), HTTPStatus.SEE_OTHER)
        response.set_cookie(
            COOKIE,
            guard.sessions.open(caller),
            max_age=int(SESSION_SECONDS),
            path=f"{base}/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return guard.shell.seal(response)

    async def sign_out(self, request: Request, session: Session, form: Form) -> Response:
        """Close the session."""
        base = base_of(request)
        self._guard.sessions.close(request.cookies.get(COOKIE, ""))
        response = RedirectResponse(f"{base}/sign-in", HTTPStatus.SEE_OTHER)
        response.delete_cookie(COOKIE, path=f"{base}/", httponly=True, samesite="strict")
        return self._guard.shell.seal(response)

    async def theme(self, request: Request, session: Session, form: Form) -> Response:
        """Remember light, dark, or what the system says, for pages that don't flash."""
        base = base_of(request)
        wanted = form.get("theme")
        response = see(local_address(form.get("back"), base))
        if wanted in THEMES:
            response.set_cookie(
                THEME_COOKIE, wanted, max_age=_YEAR_SECONDS, path=f"{base}/", httponly=True, samesite="strict"
            )
        return response
