"""What people are told of a workflow: the option `about` of its class, or of `@workflow`."""

from __future__ import annotations

import msgspec


class About(msgspec.Struct, frozen=True, kw_only=True):
    """Shown in listings; nothing of it changes what a run does, nor its fingerprint."""

    title: str = ""
    """Free text; the workflow's name by default."""
    description: str = ""
    """The first paragraph of the docstring by default."""
    version: str = ""
    author: str = ""
    tags: tuple[str, ...] = ()
