"""actors/from_outside.py: calls and edits by operators are turns, with the record of who did it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from holdfast import Actor, CallerError, Runtime, StorageFailed
from holdfast.actors.from_outside import MAX_SHOWN_CHARACTERS, call_from_outside, edit_fields, ref_of
from holdfast.runtime.errors import InvalidArgument, UnknownActorType
from tests.runtime.support import FailingLog


class Outside(Actor):
    n: int = 0
    notes: list[str] = []

    async def add(self, n: int) -> int:
        self.n += n
        if n < 0:
            raise ValueError("less")
        return self.n

    async def note(self, text: str, /, *, loud: bool = False) -> str:
        self.notes.append(text.upper() if loud else text)
        return self.notes[-1]


@pytest.fixture
def log() -> FailingLog:
    return FailingLog()


@pytest.fixture
async def rt(folder: Path, log: FailingLog) -> AsyncIterator[Runtime]:
    async with Runtime(folder, wrap_log=log.wrap) as rt:
        yield rt


def json(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


async def test_a_call_and_its_deed_are_one_commit(rt: Runtime, log: FailingLog) -> None:
    """What raises, or isn't durable, leaves neither."""
    ref = ref_of(rt, "Outside", "a")
    assert await call_from_outside(ref, "add", json([2]), by="ann", reason="why") == 2
    with pytest.raises(ValueError, match="less"):
        await call_from_outside(ref, "add", json([-1]), by="ann")
    log.fail_next = 1
    with pytest.raises(StorageFailed):
        await call_from_outside(ref, "add", json([5]), by="ann")
    assert await call_from_outside(ref, "add", json([0])) == 2
    assert [(deed.who, deed.after, deed.reason) for deed in rt.audit()] == [
        (None, "add [0]", ""), ("ann", "add [2]", "why"),
    ]  # fmt: skip


async def test_arguments_by_place_and_by_name(rt: Runtime) -> None:
    """As the method declares them."""
    ref = ref_of(rt, "Outside", "a")
    assert await call_from_outside(ref, "note", json({"text": "a", "loud": True})) == "A"
    assert await call_from_outside(ref, "note", json(["b"])) == "b"
    with pytest.raises(InvalidArgument, match="takes at most 1 arguments in order"):
        await call_from_outside(ref, "note", json(["b", True]))
    with pytest.raises(UnknownActorType, match="no class named 'Nope'"):
        ref_of(rt, "Nope", "a")


async def test_long_arguments_are_cut_in_the_audit(rt: Runtime) -> None:
    """The deed keeps their beginning and end."""
    await call_from_outside(ref_of(rt, "Outside", "a"), "note", json(["x" * 10_000]))
    (deed,) = rt.audit()
    assert len(deed.after) < MAX_SHOWN_CHARACTERS + 100
    assert "characters left out" in deed.after


async def test_an_edit_and_its_deed_are_one_commit(rt: Runtime, log: FailingLog) -> None:
    """What doesn't fit, or isn't durable, leaves neither; the next call sees what was edited."""
    ref = ref_of(rt, "Outside", "a")
    await call_from_outside(ref, "add", json([2]))
    with pytest.raises(InvalidArgument, match=r"fields of Outside/a: Expected `int`"):
        await edit_fields(ref, {"n": json("x")}, by="ann", reason="why")
    log.fail_next = 1
    with pytest.raises(StorageFailed):
        await edit_fields(ref, {"n": json(7)}, by="ann", reason="why")
    assert await call_from_outside(ref, "add", json([0])) == 2
    await edit_fields(ref, {"n": json(9), "notes": json(["x"])}, by="ann", reason="why")
    assert await call_from_outside(ref, "add", json([0])) == 9
    deed = rt.audit()[1]
    assert (deed.verb, deed.before, deed.after) == ("edit", '{"n":2,"notes":[]}', '{"n":9,"notes":["x"]}')
    with pytest.raises(CallerError, match="no field of Outside/a is named; it has n, notes"):
        await edit_fields(ref, {}, reason="why")
