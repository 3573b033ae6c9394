"""The progress of imports: a hub with a topic for each job, and its frames as clients read them.

    {"type": "workflow_progress", "jobId", "status", "timestamp", "data", "number"}

`number` counts the frames of a job; who connects again says the last one that it has: `since=`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast import HubMessage, WebSocketHub

from .records import ImportFrame

HUB_KEY: Final = "imports"


class ImportProgress(WebSocketHub):
    """All imports; frames are kept for 30 days."""

    keep = 100
    keep_for = "30d"


class WorkflowProgress(
    ImportFrame, frozen=True, kw_only=True, rename="camel", tag_field="type", tag="workflow_progress"
):
    """A frame on the wire."""

    number: int


class _Message(msgspec.Struct, frozen=True):
    """A frame of the hub that holds a message."""

    type: str
    number: int = 0
    data: ImportFrame | None = None


def progress_frame(text: str) -> str | None:
    """What a client reads in place of a frame of the hub; None for those that it doesn't need."""
    message = _decode(text)
    if message.data is None:
        return None
    told = message.data
    frame = WorkflowProgress(
        job_id=told.job_id,
        status=told.status,
        timestamp=told.timestamp,
        data=told.data,
        number=message.number,
    )
    return _encode(frame).decode()


def frame_of(message: HubMessage) -> ImportFrame:
    """What was published."""
    return msgspec.convert(message.data, ImportFrame)


_decode: Final = msgspec.json.Decoder(_Message).decode
_encode: Final = msgspec.json.Encoder().encode
