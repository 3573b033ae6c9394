"""Templates to responses: what all pages share, and the headers that keep them to this host."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

import jinja2
from starlette.requests import Request
from starlette.responses import Response

from .sessions import Session
from .shown import FILTERS

THEME_COOKIE: Final = "holdfast_theme"
THEMES: Final = ("auto", "light", "dark")
HERE: Final = Path(__file__).parent
# Pages of the menu: address, name, the key behind `g` that leads there.
MENU: Final = (
    ("", "Overview", "o"),
    ("runs", "Runs", "r"),
    ("dead-letters", "Dead letters", "d"),
    ("queues", "Queues", "q"),
    ("schedules", "Schedules", "s"),
    ("actors", "Actors", "a"),
    ("hub", "Hub", "h"),
    ("store", "Store", "f"),
    ("audit", "Audit", "u"),
)


class Shell:
    """Makes pages of templates."""

    def __init__(self, frame_ancestors: Collection[str] = ()) -> None:
        """`frame_ancestors` are the origins whose pages may show these in a frame."""
        self._templates = _templates()
        framed_by = " ".join(frame_ancestors) or "'none'"
        self._headers = {
            "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
            "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
            f"frame-ancestors {framed_by}",
            "X-Content-Type-Options": "nosniff",
            # With no-referrer a browser would send `Origin: null` with our own forms.
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        if not frame_ancestors:
            self._headers["X-Frame-Options"] = "DENY"

    def page(
        self,
        request: Request,
        template: str,
        session: Session | None,
        told: Mapping[str, object],
        status: int = 200,
    ) -> Response:
        """A page of a template; `told` is what it shows."""
        theme = request.cookies.get(THEME_COOKIE, "auto")
        base = base_of(request)
        notice, notice_is_bad = ("", False) if session is None else session.take_notice()
        path = request.url.path.removeprefix(base).lstrip("/")
        text = self._templates.get_template(template).render(
            base=base,
            here=here_of(request),
            section=path.split("/")[0],
            menu=MENU,
            theme=theme if theme in THEMES else "auto",
            who=None if session is None else session.caller,
            may_act=session is not None and session.caller.role == "operator",
            form_token="" if session is None else session.form_token,
            notice=notice,
            notice_is_bad=notice_is_bad,
            **told,
        )
        return Response(text, status, self._headers, media_type="text/html")

    def seal(self, response: Response) -> Response:
        """Give a response that is no page the headers of one."""
        response.headers.update(self._headers)
        return response


@cache
def _templates() -> jinja2.Environment:
    """All templates, compiled: some tens of milliseconds each, which no request should take."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    filters = cast("dict[str, object]", templates.filters)  # pyright: ignore[reportUnknownMemberType]
    filters.update(FILTERS)
    for name in templates.list_templates():
        templates.get_template(name)
    return templates


def base_of(request: Request) -> str:
    """Where the pages begin: what an address of a page is made with."""
    return str(request.scope.get("root_path", ""))


def here_of(request: Request) -> str:
    """The address of this page with its query, on this host."""
    query = request.url.query
    return request.url.path + (f"?{query}" if query else "")


def local_address(text: str, base: str) -> str:
    """An address as a form gave it, if it is one of these pages; else the first of them."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return f"{base}/"
    ours = parts.path == base or parts.path.startswith(f"{base}/")
    if parts.scheme or parts.netloc or not ours or "\\" in text or not text.isprintable():
        return f"{base}/"
    return text
