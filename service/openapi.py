"""`GET /openapi.json`: the declared endpoints as an OpenAPI 3.1 document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, cast

import msgspec

from .endpoint import JSON, AnyEndpoint
from .refusals import Problem

_REF: Final = "#/components/schemas/{name}"
_PROBLEM: Final = "application/problem+json"
_PATH_TEXTS: Final = {
    "id": "Slashes in it may stand as they are. A key that is no text is its JSON behind a tilde: `~7`.",
}
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Who asks again with the same key gets the first answer's effect once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
}


def openapi_document(endpoints: Sequence[AnyEndpoint], version: str) -> dict[str, object]:
    """The document; raises `TypeError` for a type that JSON Schema has no words for."""
    hints = _Hints(endpoints)
    paths: dict[str, dict[str, object]] = {}
    for endpoint in endpoints:
        entry = paths.setdefault(endpoint.address, {})
        entry[endpoint.method.lower()] = _operation(endpoint, hints)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Holdfast", "version": version},
        "paths": paths,
        "components": {
            "schemas": hints.components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Hints:
    """The types of all endpoints and their schemas, which share components."""

    def __init__(self, endpoints: Sequence[AnyEndpoint]) -> None:
        hints: list[object] = [Problem]
        queries: list[object] = []
        for endpoint in endpoints:
            queries.append(endpoint.query)
            if endpoint.told_body is not None:
                hints.append(endpoint.told_body)
            if endpoint.media == JSON:
                hints += [hint for hint in endpoint.answers.values() if hint is not None]
        # A schema for each, in their order; a struct's is a reference.
        schemas, self.components = _schemas(hints)
        self._schemas = list(zip(hints, schemas, strict=True))
        _, self._queries = _schemas(queries)

    def schema(self, hint: object) -> dict[str, Any]:
        """A type's schema."""
        return next(schema for one, schema in self._schemas if one is hint)

    def parameters(self, query: type[msgspec.Struct]) -> list[dict[str, object]]:
        """The parameters of a query."""
        own = self._queries[msgspec.json.schema(query)["$ref"].rpartition("/")[2]]
        required = own.get("required", ())
        parameters: list[dict[str, object]] = []
        for name, schema in own["properties"].items():
            if "anyOf" in schema:  # a parameter that isn't there is None; none is given as null
                (schema,) = (one for one in schema["anyOf"] if one != {"type": "null"})
            text = schema.get("description", "")
            parameters.append(
                {
                    "name": name,
                    "in": "query",
                    "required": name in required,
                    "description": text,
                    "schema": schema,
                }
            )
        return parameters


def _schemas(hints: Sequence[object]) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    return msgspec.json.schema_components(cast("Any", hints), schema_hook=_of_custom_type, ref_template=_REF)


def _of_custom_type(hint: type) -> dict[str, object]:
    if hint is object or hint is msgspec.Raw:
        return {"description": "anything"}
    raise NotImplementedError


def _operation(endpoint: AnyEndpoint, hints: _Hints) -> dict[str, object]:
    words = re.findall(r"\w+", endpoint.address)
    names = re.findall(r"{(\w+)}", endpoint.address)
    parameters: list[dict[str, object]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_TEXTS.get(name, ""),
            "schema": {"type": "string", "minLength": 1},
        }
        for name in names
    ]
    parameters += hints.parameters(endpoint.query)
    if endpoint.method == "POST":
        parameters.append(dict(_IDEMPOTENCY_KEY))
    responses: dict[str, object] = {
        str(status): _response(status, endpoint, hint, hints) for status, hint in endpoint.answers.items()
    }
    responses["default"] = {
        "description": "A problem",
        "content": {_PROBLEM: {"schema": hints.schema(Problem)}},
    }
    told: dict[str, object] = {
        "operationId": "_".join((endpoint.method.lower(), *words)),
        "summary": endpoint.summary,
        "tags": [words[0]],
        "parameters": parameters,
        "responses": responses,
        "security": [] if endpoint.role is None else [{"token": []}],
    }
    if endpoint.role is not None:
        told["x-role"] = endpoint.role
    if endpoint.told_body is not None:
        told["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": hints.schema(endpoint.told_body)}},
        }
    return told


def _response(status: int, endpoint: AnyEndpoint, hint: object, hints: _Hints) -> dict[str, object]:
    told: dict[str, object] = {"description": HTTPStatus(status).phrase}
    if endpoint.media != JSON:
        told["content"] = {endpoint.media: {"schema": {"type": "string"}}}
    elif hint is not None:
        told["content"] = {JSON: {"schema": hints.schema(hint)}}
    return told
