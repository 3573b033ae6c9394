"""Style sheet, scripts and icons: files of the package, read once."""

from __future__ import annotations

from hashlib import sha256
from http import HTTPStatus
from typing import Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from .shell import HERE

_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class _Asset(NamedTuple):
    content: bytes
    media_type: str
    etag: str


class Assets:
    """The files; nothing else is served, whatever an address says."""

    def __init__(self) -> None:
        self._assets: dict[str, _Asset] = {}
        for path in sorted((HERE / "static").iterdir()):
            content = path.read_bytes()
            etag = f'"{sha256(content).hexdigest()[:32]}"'
            self._assets[path.name] = _Asset(content, _TYPES[path.suffix], etag)

    async def get(self, request: Request) -> Response:
        """One of them; 304 when the browser has it."""
        asset = self._assets.get(request.path_params["name"])
        if asset is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        # To be asked again each time, or an older script would work on a newer page.
        headers = {"ETag": asset.etag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        if request.headers.get("if-none-match") == asset.etag:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(asset.content, headers=headers, media_type=asset.media_type)
