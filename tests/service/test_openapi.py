"""service/openapi.py: the document of a service that runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from holdfast import Runtime
from holdfast.service import Token, http_app
from tests.service.support import serving

TOKEN = Token("openapi-openapi-1", "ann")


@pytest.fixture
async def document(folder: Path) -> Any:
    async with Runtime(folder) as rt:
        app = http_app(rt, tokens=[TOKEN])
        async with serving(app) as address, httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(f"http://{address}/openapi.json")).json(), app


async def test_the_document_is_one_of_openapi(document: Any) -> None:
    told, _ = document
    assert told["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(told).iter_errors()) == []


async def test_every_route_is_in_it(document: Any) -> None:
    told, app = document
    routes = {
        (route.path.replace(":path}", "}"), method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert routes == {(path, method) for path, methods in told["paths"].items() for method in methods}


async def test_names_of_operations_are_their_own(document: Any) -> None:
    told, _ = document
    names = [entry["operationId"] for methods in told["paths"].values() for entry in methods.values()]
    assert len(set(names)) == len(names)


async def test_parameters_and_bodies_are_told(document: Any) -> None:
    told, _ = document
    runs = told["paths"]["/runs"]
    limit = next(one for one in runs["get"]["parameters"] if one["name"] == "limit")
    assert limit["in"] == "query" and not limit["required"]
    assert limit["schema"]["maximum"] == 1_000
    assert runs["post"]["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/StartRun"
    }
    assert "workflow" in told["components"]["schemas"]["StartRun"]["required"]
    assert told["paths"]["/health"]["get"]["security"] == []
    assert runs["post"]["x-role"] == "operator"
    assert not any("Query" in name for name in told["components"]["schemas"])


async def test_the_page_tells_of_every_route(document: Any) -> None:
    """docs/http.md has each with its method, or docs/tracker.md for those of a tracker."""
    told, _ = document
    docs = Path(__file__).parents[2] / "docs"
    text = (docs / "http.md").read_text() + (docs / "tracker.md").read_text()
    said = {name.upper() for name in re.findall(r"`((?:GET|POST) /[^` ]*)`", text)}
    missing = [
        f"{method.upper()} {path}"
        for path, methods in told["paths"].items()
        for method in methods
        if f"{method.upper()} {_as_told(path)}" not in said
    ]
    assert missing == []


def _as_told(path: str) -> str:
    """An address as pages write it: `/runs/WORKFLOW/ID`."""
    return re.sub(r"{(\w+)}", r"\1", path).upper()
