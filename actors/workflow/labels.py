"""Labels of a run: what it is found by beside workflow and status.

    ref      an outside thing it belongs to, as (type, id)
    tenant   whose it is
    tags     names with values, given at the start or by `self.tags`
    state    the business state that `self.set_status` gave it

They lie in the run's head, and only when it has any.  Each has entries in one index over the runs of all
workflows, in the order of creation, written in the commits that change the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import msgspec

from ...storage import layout
from ...storage.errors import InvalidValue
from ...storage.keys import MAX_INDEX_ENTRY_BYTES, encode_index_int, encode_index_values

MAX_LABEL_CHARACTERS: Final = 100
MAX_TAGS: Final = 16

_REF: Final = b"\x01"
_TENANT: Final = b"\x02"
_TAG: Final = b"\x03"
_STATE: Final = b"\x04"
# What follows the label in its index entry: time of creation, type, and the run's number.
_ENTRY_END_BYTES: Final = 9 + 2 + 9


class RunLabels(msgspec.Struct, array_like=True, frozen=True):
    """The labels of one run."""

    ref: tuple[str, str] | None = None
    tenant: str | None = None
    tags: dict[str, str] = {}
    state: str | None = None


NO_LABELS: Final = RunLabels()


def check_label(text: object, what: str) -> str:
    """The text of a label; raises `InvalidValue` when it can't be one."""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_LABEL_CHARACTERS or not text.isprintable():
        raise InvalidValue(
            f"{what} must have 1 to {MAX_LABEL_CHARACTERS} printable characters; got {text!r:.200}"
        )
    return text


def check_labels(labels: RunLabels) -> RunLabels | None:
    """The labels that a run is started with, None when there are none; raises `InvalidValue`."""
    if labels.ref is not None:
        check_label(labels.ref[0], "the type of a ref")
        check_label(labels.ref[1], "the id of a ref")
        _check_entry(ref_prefix(labels.ref), f"the ref {labels.ref}")
    if labels.tenant is not None:
        check_label(labels.tenant, "a tenant")
    if len(labels.tags) > MAX_TAGS:
        raise InvalidValue(f"a run has at most {MAX_TAGS} tags; got {len(labels.tags)}")
    for name, value in labels.tags.items():
        check_tag(name, value, "")
    return None if labels == NO_LABELS else labels


def check_tag(name: object, value: object, where: str) -> None:
    """Raise `InvalidValue` when this can't be a tag; `where` begins the message."""
    name, value = (
        check_label(name, f"{where}the name of a tag"),
        check_label(value, f"{where}the value of tag {name!r}"),
    )
    _check_entry(tag_prefix(name, value), f"{where}tag {name!r} with its value")


def _check_entry(prefix: bytes, what: str) -> None:
    length = len(prefix) + _ENTRY_END_BYTES
    if length > MAX_INDEX_ENTRY_BYTES:
        raise InvalidValue(
            f"{what} takes {length} bytes in the index of runs; at most {MAX_INDEX_ENTRY_BYTES} are allowed"
        )


def given_tags(tags: object) -> dict[str, str]:
    """Tags as somebody gave them, not checked yet; raises `InvalidValue` for what is no mapping."""
    if tags is None:
        return {}
    if not isinstance(tags, Mapping):
        raise InvalidValue(f"tags must be a mapping of names to texts; got {tags!r:.200}")
    return dict(cast("Mapping[str, str]", tags))


def index_entries(labels: RunLabels, created_ms: int, type_number: bytes, number: bytes) -> list[bytes]:
    """The entries of a run's labels; `number` is the run's own as it stands in keys."""
    end = encode_index_int(created_ms) + type_number + number
    entries: list[bytes] = []
    if labels.ref is not None:
        entries.append(ref_prefix(labels.ref) + end)
    if labels.tenant is not None:
        entries.append(tenant_prefix(labels.tenant) + end)
    for name, value in labels.tags.items():
        entries.append(tag_prefix(name, value) + end)
    if labels.state is not None:
        entries.append(state_prefix(labels.state) + end)
    return entries


def ref_prefix(ref: tuple[str, str]) -> bytes:
    """What the entries of runs with a ref begin with."""
    return layout.RUN_LABEL + _REF + encode_index_values(ref)


def tenant_prefix(tenant: str) -> bytes:
    """What the entries of a tenant's runs begin with."""
    return layout.RUN_LABEL + _TENANT + encode_index_values((tenant,))


def tag_prefix(name: str, value: str) -> bytes:
    """What the entries of runs with a tag begin with."""
    return layout.RUN_LABEL + _TAG + encode_index_values((name, value))


def state_prefix(state: str) -> bytes:
    """What the entries of runs in a business state begin with."""
    return layout.RUN_LABEL + _STATE + encode_index_values((state,))
