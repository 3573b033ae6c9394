"""Labels of a run: what it is found by beside workflow and status.

    ref      an outside thing it belongs to, as (type, id)
    tenant   whose it is
    tags     names with values, given at the start or by `self.tags`
    state    the business state that `self.set_status` gave it

They lie in the run's head, and only when it has any.  Each has entries in one index over the runs of all
workflows, in the order of creation, written in the commits that change the head.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ...storage import layout
from ...storage.errors import InvalidValue
from ...storage.keys import encode_index_int, encode_index_values

MAX_LABEL_CHARACTERS: Final = 100
MAX_TAGS: Final = 16

_REF: Final = b"\x01"
_TENANT: Final = b"\x02"
_TAG: Final = b"\x03"
_STATE: Final = b"\x04"


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
    if labels.tenant is not None:
        check_label(labels.tenant, "a tenant")
    if len(labels.tags) > MAX_TAGS:
        raise InvalidValue(f"a run has at most {MAX_TAGS} tags; got {len(labels.tags)}")
    for name, value in labels.tags.items():
        check_label(name, "the name of a tag")
        check_label(value, f"the value of tag {name!r}")
    return None if labels == NO_LABELS else labels


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
