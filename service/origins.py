"""Which pages may connect: a browser sends cookies to whatever address a page names, so the server looks at
the `Origin` header, which a page can't set.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection


def is_allowed(connection: HTTPConnection, origins: Collection[str]) -> bool:
    """Whether a request comes from a page of this very host, from one of `origins`, or from no page at all.

    origins   like `https://example.org`; `*` for all
    """
    origin = connection.headers.get("origin")
    if origin is None or "*" in origins or origin in origins:
        return True
    try:
        asked = urlsplit(origin)
    except ValueError:
        return False
    same_host = asked.netloc.lower() == connection.headers.get("host", "").lower() != ""
    return same_host and asked.scheme in ("http", "https")
