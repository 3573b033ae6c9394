"""Sources of workflows, made up by hypothesis: nested branches, loops, guards, groups, calls of methods.

Each step has a name of its own, so a test can count them.
"""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

HEAD = """\
import asyncio
from contextlib import suppress
from holdfast import Counter, Workflow

class Flow(Workflow):
"""
_HOSTILE = [
    "'\"]'",
    "'|-->'",
    "'</text>&amp;'",
    "'`#;'",
    "'\\n\\x00\\u202e'",
    "'\u540d\u524d\U0001f600'",
    "f(x)[0] % 2",
]


class Source(NamedTuple):
    """A source, and the names of all steps that are in it."""

    text: str
    steps: list[str]


class _Writer:
    """Writes statements as hypothesis draws them."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.steps: list[str] = []
        self.left = 25  # statements, so that sources stay small

    def step(self) -> str:
        """A call of a step, not awaited."""
        name = f"s{len(self.steps)}"
        self.steps.append(name)
        return f"self.step(body, name={name!r})"

    def condition(self) -> str:
        return f"x == {self.draw(st.sampled_from(_HOSTILE))}"

    def block(self, indent: str, *, in_loop: bool, group: str | None = None) -> list[str]:
        """A few statements; at least a `pass`."""
        lines: list[str] = []
        for _ in range(self.draw(st.integers(0, 3))):
            lines += self.statement(indent, in_loop=in_loop, group=group)
        return lines or [f"{indent}pass"]

    def statement(self, indent: str, *, in_loop: bool, group: str | None) -> list[str]:
        self.left -= 1
        if self.left < 0:
            return []
        kinds = [self.simple, self.expression, self.branch, self.loop, self.guard, self.match, self.parallel]
        kind = self.draw(st.sampled_from(kinds))
        lines = kind(indent, in_loop)
        if group is not None and self.draw(st.booleans()):
            lines.append(f"{indent}{group}.{self.step().removeprefix('self.')}")
        return lines

    def simple(self, indent: str, in_loop: bool) -> list[str]:
        lines = [
            f"await {self.step()}",
            "await self.sleep('1h')",
            "self.emit('told', x)",
            "y = x + 1",
            "await self.runtime.get(Counter, 'a').increment()",
            "await x.unknown(1)",
            "await self.wait(Go | Stop, timeout='2d')",
            "return x",
            "raise ValueError(x)",
            "self.continue_as_new(x)",
            "await self.helper(x)",
            "await self.other(x)",
        ]
        if in_loop:
            lines += ["break", "continue"]
        line = self.draw(st.sampled_from(lines))
        if "self.step" not in line:
            self.steps.pop()
        return [f"{indent}{line}"]

    def expression(self, indent: str, in_loop: bool) -> list[str]:
        kind = self.draw(st.integers(0, 6))
        line = [
            lambda: f"y = (await {self.step()}) if {self.condition()} else (await {self.step()})",
            lambda: f"y = x and (await {self.step()}) or (await {self.step()})",
            lambda: f"y = [await {self.step()} for z in x if await {self.step()}]",
            lambda: f"y = {{await {self.step()}: (await {self.step()}).field}}",
            lambda: f"tasks = [{self.step()} for z in x]",
            lambda: f"y = lambda: {self.step()}",
            lambda: f"await {self.step()}.optional({self.condition()})",
        ][kind]()
        return [f"{indent}{line}"]

    def branch(self, indent: str, in_loop: bool) -> list[str]:
        inner = indent + "    "
        lines = [f"{indent}if {self.condition()}:", *self.block(inner, in_loop=in_loop)]
        if self.draw(st.booleans()):
            lines += [f"{indent}elif await {self.step()}:", *self.block(inner, in_loop=in_loop)]
        if self.draw(st.booleans()):
            lines += [f"{indent}else:", *self.block(inner, in_loop=in_loop)]
        return lines

    def loop(self, indent: str, in_loop: bool) -> list[str]:
        inner = indent + "    "
        heads = ["for z in x:", "while x:", "while True:", f"while await {self.step()}:", "async for z in x:"]
        head = self.draw(st.sampled_from(heads))
        if "self.step" not in head:
            self.steps.pop()
        lines = [f"{indent}{head}", *self.block(inner, in_loop=True)]
        if self.draw(st.booleans()):
            lines += [f"{indent}else:", *self.block(inner, in_loop=in_loop)]
        return lines

    def guard(self, indent: str, in_loop: bool) -> list[str]:
        inner = indent + "    "
        head = self.draw(
            st.sampled_from(["try:", "async with asyncio.timeout(5):", "with suppress(KeyError):", "with x:"])
        )
        lines = [f"{indent}{head}", *self.block(inner, in_loop=in_loop)]
        if head == "try:":
            handlers = self.draw(st.integers(0, 2))
            for number in range(handlers):
                lines += [f"{indent}except Error{number} as e:", *self.block(inner, in_loop=in_loop)]
            if handlers and self.draw(st.booleans()):
                lines += [f"{indent}else:", *self.block(inner, in_loop=in_loop)]
            if not handlers or self.draw(st.booleans()):
                lines += [f"{indent}finally:", *self.block(inner, in_loop=in_loop)]
        return lines

    def match(self, indent: str, in_loop: bool) -> list[str]:
        inner = indent + "    "
        lines = [f"{indent}match {self.draw(st.sampled_from(['x', 'await self.wait(Go)']))}:"]
        for case in ("Go(by=who)", "Stop() if x", "{'k': [1, *_]}", "_")[self.draw(st.integers(0, 3)) :]:
            lines += [f"{inner}case {case}:", *self.block(inner + "    ", in_loop=in_loop)]
        return lines

    def parallel(self, indent: str, in_loop: bool) -> list[str]:
        inner = indent + "    "
        kind = self.draw(st.integers(0, 3))
        if kind == 0:
            return [f"{indent}await asyncio.gather({self.step()}, {self.step()}, self.sleep(1), *x)"]
        if kind == 1:
            return [f"{indent}y = await asyncio.gather(*({self.step()} for z in x), return_exceptions=True)"]
        if kind == 2:
            spawned = f"g.create_task(self.step(body, name='s{len(self.steps)}'))"
            self.step()
            return [
                f"{indent}async with asyncio.TaskGroup() as g:",
                f"{inner}for z in x:",
                f"{inner}    {spawned}",
            ]
        return [f"{indent}async with self.group() as g:", *self.block(inner, in_loop=in_loop, group="g")]


@st.composite
def sources(draw: st.DrawFn) -> Source:
    """A module with a workflow, whose run() calls two methods that may call each other."""
    writer = _Writer(draw)
    lines: list[str] = []
    for name in ("run", "helper", "other"):
        lines += [f"    async def {name}(self, x):"]
        if name == "run":
            lines += [" " * 8 + "await self.helper(x)", " " * 8 + "await self.other(x)"]
        lines += writer.block(" " * 8, in_loop=False)
    return Source(HEAD + "\n".join(lines) + "\n", writer.steps)
