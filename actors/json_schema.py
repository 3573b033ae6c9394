"""JSON Schema of a type, by msgspec: for listings of workflows and actions."""

from __future__ import annotations

from typing import Any, cast

import msgspec


def json_schema(hint: object) -> dict[str, object]:
    """The schema of values of a type; raises `TypeError` where there is none.

    A struct's own schema stands at the top, those of others below "$defs".
    """
    schema = cast("dict[str, object]", msgspec.json.schema(cast("Any", hint), schema_hook=_of_custom_type))
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    definitions = cast("dict[str, dict[str, object]]", schema["$defs"])
    name = reference.rpartition("/")[2]
    if reference in str({other: one for other, one in definitions.items()}):
        return schema  # it refers to itself
    own = definitions.pop(name)
    return own | ({"$defs": definitions} if definitions else {})


def _of_custom_type(hint: type) -> dict[str, object]:
    """For msgspec, which takes `NotImplementedError` for "no schema" and says which type has none."""
    if hint is object:
        # An empty schema would say the same, but msgspec takes it for none.
        return {"description": "anything"}
    raise NotImplementedError
