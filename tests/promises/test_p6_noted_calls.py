"""P6 where calls come back: what is kept with a reply of calls that joined turns further up, and how long.

A shop calls a guest, who calls back; that call joins the shop's turn, and the guest's reply notes it.  The
process dies when the guest is on disk and the shop is not.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast import Actor, Retry, Workflow
from holdfast.actors.errors import RunFailed
from holdfast.actors.workflow.step_plan import MAX_RESULT_BYTES
from holdfast.testing import Crash, Simulation, simulate
from holdfast.testing.stored_state import kept_replies

HAPPENED: list[str] = []
LIFE: list[Simulation] = []
LEFT: set[asyncio.Task[Any]] = set()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    HAPPENED.clear()
    LEFT.clear()


class Place(msgspec.Struct, frozen=True):
    row: int


GIVEN: dict[str, Any] = {
    "take_keys_that_are_structs": {Place(1): 2, Place(2): 3},
    "take_ids": [uuid.UUID(int=7)],
    "take_set": frozenset({"a", "b"}),
}


class Shop(Actor):
    visits: int = 0
    served: int = 0
    taken: str = ""

    async def open(self, what: str) -> str:
        self.visits += 1
        guest = self.runtime.get(Guest, "g")
        for _ in range(4):
            try:
                async with asyncio.timeout(2):
                    got = await guest.come(what)
                break
            except (OSError, TimeoutError) as error:
                HAPPENED.append(type(error).__name__)
        else:
            raise AssertionError("tried too often")
        await asyncio.sleep(1)
        return got

    async def serve(self) -> str:
        self.served += 1
        if LIFE[-1].life == 2 and not HAPPENED:
            raise OSError("once, when it is made again")
        return "served"

    async def serve_slowly(self) -> str:
        self.served += 1
        if LIFE[-1].life == 2 and not HAPPENED:
            await asyncio.sleep(3)
        return "served"

    async def serve_much(self) -> bytes:
        self.served += 1
        return bytes(MAX_RESULT_BYTES + 1)

    async def take_much(self, much: bytes) -> str:
        self.served += 1
        return str(len(much))

    async def take_keys_that_are_structs(self, given: dict[Place, int]) -> str:
        return self._took(given)

    async def take_ids(self, given: list[uuid.UUID]) -> str:
        return self._took(given)

    async def take_set(self, given: frozenset[str]) -> str:
        return self._took(sorted(given))

    def _took(self, given: object) -> str:
        self.served += 1
        self.taken = repr(given)
        return "served"

    async def told(self) -> tuple[int, int, str]:
        return self.visits, self.served, self.taken


class Guest(Actor):
    visits: int = 0

    async def come(self, what: str) -> str:
        self.visits += 1
        shop = self.runtime.get(Shop, "s")
        if what == "serve_much":
            try:
                await shop.serve_much()
            except Exception as error:
                return type(error).__name__
        if what == "take_much":
            for n in range(3):
                await shop.take_much(bytes([n]) * (MAX_RESULT_BYTES // 2))
            return "took"
        call: Callable[..., Any] = getattr(shop, what)
        return str(await (call(GIVEN[what]) if what in GIVEN else call()))

    async def told(self) -> int:
        return self.visits


class Visit(Workflow):
    retry = Retry(3, 1.0, "constant", jitter=0)

    async def run(self, given: tuple[bool, str]) -> str:
        in_step, what = given
        return await (self.step(self.ask, what) if in_step else self.ask(what))

    async def ask(self, what: str) -> str:
        return await self.runtime.get(Shop, "s").open(what)


def visit(in_step: bool, what: str) -> tuple[str, object, object]:
    """The result, what the shop was told, and how often the guest came; the process dies in between."""
    with simulate(types=[Shop, Guest, Visit]) as sim:
        LIFE[:] = [sim]
        sim.crash_at(Crash("commit", 2, "after"))
        got = sim.result(sim.start(Visit, (in_step, what), id="v"))
        assert sim.life == 2
        sim.run_until_idle()
        assert kept_replies(sim.runtime) == []
        return got, sim.call(Shop, "s").told(), sim.call(Guest, "g").told()


@pytest.mark.parametrize("in_step", [True, False])
@pytest.mark.parametrize(("what", "happened"), [("serve", ["OSError"]), ("serve_slowly", ["TimeoutError"])])
def test_a_noted_call_that_fails_when_it_is_made_again(in_step: bool, what: str, happened: list[str]) -> None:
    """The shop sees the guest fail and asks him once more: that is the same call, and he came already."""
    assert visit(in_step, what) == ("served", (1, 1, ""), 1)
    assert happened == HAPPENED


@pytest.mark.parametrize("in_step", [True, False])
def test_a_call_that_was_undone_is_not_noted(in_step: bool) -> None:
    """Its reply was too large to be kept, and the guest caught that."""
    assert visit(in_step, "serve_much") == ("InvalidResult", (1, 0, ""), 1)


@pytest.mark.parametrize("what", list(GIVEN))
def test_a_noted_call_is_made_again_with_the_arguments_that_it_had(what: str) -> None:
    """Also such that are of no plain type."""
    given = sorted(GIVEN[what]) if what == "take_set" else GIVEN[what]
    assert visit(True, what) == ("served", (1, 1, repr(given)), 1)


def test_what_is_noted_is_bounded_as_a_reply_is() -> None:
    """The arguments of calls that came back lie with the reply; the error says so, and nothing is kept."""
    with simulate(types=[Shop, Guest, Visit]) as sim:
        LIFE[:] = [sim]
        with pytest.raises(RunFailed, match=r"3 calls below it came back .* store large ones elsewhere"):
            sim.result(sim.start(Visit, (True, "take_much"), id="v"))
        assert sim.call(Shop, "s").told() == (0, 0, "")
        assert sim.call(Guest, "g").told() == 0


# -- turns that were left behind ----------------------------------------------------------------------------


class Leaf(Actor):
    calls: int = 0

    async def add(self) -> int:
        self.calls += 1
        return self.calls

    async def relay_late(self) -> int:
        self.calls += 1
        await asyncio.sleep(5)
        return await self.runtime.get(Leaf, "second").add()

    async def told(self) -> int:
        return self.calls


class Tree(Actor):
    """Leaves a call behind."""

    async def leave(self, to: str) -> int:
        work = self.runtime.get(Leaf, "first").relay_late() if to == "leaf" else self._visit()
        task = asyncio.ensure_future(work)
        LEFT.add(task)
        await asyncio.sleep(0.5)
        return 1

    async def _visit(self) -> None:
        try:
            await self.runtime.get(Upper, "u").go()
        except OSError:
            HAPPENED.append("failed in the end")


class Upper(Actor):
    async def go(self) -> int:
        await self.runtime.get(Lower, "l").go()
        await asyncio.sleep(5)
        raise OSError("in the end")

    async def back(self) -> int:
        return await self.runtime.get(Lower, "l").back()


class Lower(Actor):
    calls: int = 0

    async def go(self) -> int:
        self.calls += 1
        await self.runtime.get(Upper, "u").back()
        await asyncio.sleep(3)  # the run ends meanwhile
        return 1

    async def back(self) -> int:
        self.calls += 1
        return self.calls

    async def told(self) -> int:
        return self.calls


class Walk(Workflow):
    async def run(self, given: tuple[bool, str]) -> int:
        in_step, to = given
        return await (self.step(self.ask, to) if in_step else self.ask(to))

    async def ask(self, to: str) -> int:
        return await self.runtime.get(Tree, "t").leave(to)


@pytest.mark.parametrize("in_step", [True, False])
def test_a_call_that_was_left_behind_calls_on(in_step: bool) -> None:
    """Its caller ended well, so it is a plain call, and so are those that it makes when the step is over."""
    with simulate(types=[Tree, Leaf, Walk]) as sim:
        assert sim.result(sim.start(Walk, (in_step, "leaf"), id="w")) == 1
        sim.run_until_idle()
        assert [sim.call(Leaf, name).told() for name in ("first", "second")] == [1, 1]
        assert kept_replies(sim.runtime) == []


@pytest.mark.parametrize("in_step", [True, False])
def test_a_chain_that_was_left_behind_leaves_no_row(in_step: bool) -> None:
    """A call in it joined a turn between, whose commit comes when the run has ended."""
    with simulate(types=[Tree, Upper, Lower, Walk]) as sim:
        run = sim.start(Walk, (in_step, "upper"), id="w")
        assert sim.result(run) == 1
        sim.run_until_idle()
        assert HAPPENED == ["failed in the end"]
        assert sim.call(Lower, "l").told() == 2
        assert kept_replies(sim.runtime) == []


# -- another process ----------------------------------------------------------------------------------------

COLOURS = """
import asyncio, os, sys
from holdfast import Actor, Runtime, Workflow

class Purse(Actor):
    calls: int = 0
    async def add(self, colours: set[str], more: object) -> int:
        self.calls += 1
        return self.calls

class Paint(Workflow):
    async def run(self) -> int:
        return await self.step(self.ask)
    async def ask(self) -> int:
        colours = {"red", "green", "blue", "white", "black"}
        got = await self.runtime.get(Purse, "p").add(colours, {"deeper": [colours, (1, colours)]})
        if "die" in sys.argv:
            os._exit(9)
        return got

async def main():
    async with Runtime(sys.argv[1]) as rt:
        run = await rt.start(Paint, id="w", on_conflict="join")
        print(await run.result())

asyncio.run(main())
"""


def test_a_call_with_a_set_is_the_same_call_in_another_process(tmp_path: Path) -> None:
    """The order of a set is drawn anew in each process; three die behind the call, the next one knows it."""
    program = tmp_path / "colours.py"
    program.write_text(COLOURS)

    def run(seed: int, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(program), str(tmp_path / "data"), *more],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    for seed in (1, 2, 3):
        assert run(seed, "die").returncode == 9
    last = run(4)
    assert last.stdout == "1\n", last.stderr
