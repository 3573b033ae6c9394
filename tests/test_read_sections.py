"""No code is left while a read transaction of LMDB is open: an old reader makes the file grow.

Read from the source (ast).  A section is the body of a `with` statement that begins a transaction, or that
enters a context manager whose own `yield` stands in a section; such managers are found wherever they are.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.test_layers import FRONT_DOOR, ROOT, layers, place, sources

FOLDERS = [FRONT_DOOR, *layers(), "bench"]


class Names:
    """What all files together tell about names: which are sections, and which may be something else."""

    def __init__(self, trees: Iterable[ast.Module]) -> None:
        trees = list(trees)
        functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        self.other = {node.name for node in functions if not is_manager(node)}
        self.managers: set[str] = set()
        known = -1
        while len(self.managers) > known:  # a manager may enter another one
            known = len(self.managers)
            for tree in trees:
                self.managers |= Sections(tree, self).managers


class Sections(ast.NodeVisitor):
    """The sections of one file, what leaves code inside them, and the context managers that are sections."""

    def __init__(self, tree: ast.Module, names: Names) -> None:
        self._names = names
        self._begins = names_of_begin(tree)
        self._inside = False
        self._function: ast.AST | None = None
        self._ended: set[ast.expr] = set()  # calls whose transaction surely ends
        self.lines: list[int] = []
        self.wrong: list[tuple[int, str]] = []
        self.managers: set[str] = set()
        self.visit(tree)

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        before = self._inside
        for item in node.items:
            self._ended.add(item.context_expr)
            self.visit(item)
            if self._opens(item.context_expr):
                self._inside = True
                self.lines.append(node.lineno)
        for statement in node.body:
            self.visit(statement)
        self._inside = before

    def visit_AsyncWith(self, node: ast.AsyncWith) -> None:
        self._leave(node, "async with")
        self.visit_With(node)

    def visit_AsyncFor(self, node: ast.AsyncFor) -> None:
        self._leave(node, "async for")
        self.generic_visit(node)

    def visit_Await(self, node: ast.Await) -> None:
        self._leave(node, "await")
        self.generic_visit(node)

    def visit_Yield(self, node: ast.Yield | ast.YieldFrom) -> None:
        if self._inside and isinstance(self._function, ast.FunctionDef) and is_manager(self._function):
            self.managers.add(self._function.name)
        else:
            self._leave(node, "yield")
        self.generic_visit(node)

    visit_YieldFrom = visit_Yield

    def visit_comprehension(self, node: ast.comprehension) -> None:
        if node.is_async:
            self._leave(node.iter, "async for")
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        # It runs when it is called, not where it stands.
        before = self._inside, self._function
        self._inside, self._function = False, node
        self.generic_visit(node)
        self._inside, self._function = before

    visit_AsyncFunctionDef = visit_FunctionDef
    visit_Lambda = visit_FunctionDef

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute) and node.func.attr == "abort":
            self._ended.add(node.func.value)
        name = last_name(node.func)
        only_a_manager = name in self._names.managers and name not in self._names.other
        if node not in self._ended and (only_a_manager or (self._begins_one(node) and not writes(node))):
            self.wrong.append((node.lineno, "begins a read that no with statement ends"))
        self.generic_visit(node)

    def _opens(self, expression: ast.expr) -> bool:
        return isinstance(expression, ast.Call) and (
            self._begins_one(expression) or last_name(expression.func) in self._names.managers
        )

    def _begins_one(self, call: ast.Call) -> bool:
        return last_name(call.func) in self._begins

    def _leave(self, node: ast.stmt | ast.expr, what: str) -> None:
        if self._inside:
            self.wrong.append((node.lineno, f"has {what} in a read section"))


def names_of_begin(tree: ast.Module) -> set[str]:
    """What begins a transaction in this file: `begin` and the names it is given, if the file knows LMDB."""
    nodes = list(ast.walk(tree))
    if not any(
        (isinstance(node, ast.alias) and node.name.split(".")[0] == "lmdb")
        or (isinstance(node, ast.ImportFrom) and node.module == "lmdb")
        or (isinstance(node, ast.Attribute) and node.attr == "lmdb")
        for node in nodes
    ):
        return set()
    found = {"begin", "Transaction"}
    for node in nodes:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value and last_name(node.value) == "begin":
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.update(last_name(target) for target in targets)
    return found


def last_name(node: ast.expr) -> str:
    """`c` of `a.b.c` and of `c`; an empty text for anything else."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def is_manager(function: ast.FunctionDef) -> bool:
    """Whether a function is a context manager written as a generator."""
    return any(last_name(decorator) == "contextmanager" for decorator in function.decorator_list)


def writes(call: ast.Call) -> bool:
    """Whether a transaction is the writer's own: it ends with the commit, and there is only one at a time."""
    return any(
        keyword.arg == "write" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        for keyword in call.keywords
    )


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path))


@pytest.fixture(scope="module")
def names() -> Names:
    """The names of all shipped code."""
    return Names(parse(path) for folder in FOLDERS for path in sources(folder))


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_code_is_left_inside_a_read_section(folder: str, names: Names) -> None:
    """Nothing is awaited or yielded while a snapshot is open, and each snapshot ends with its `with`."""
    wrong = [
        f"{place(path, line)} {what}"
        for path in sources(folder)
        for line, what in Sections(parse(path), names).wrong
    ]
    assert not wrong, "\n".join(wrong)


def test_the_sections_are_found(names: Names) -> None:
    """The lint isn't blind: it sees the sections that are known, through aliases and managers."""
    files = ["storage/store.py", "storage/check.py", "actors/folder_view.py", "bench/floor.py"]
    files += ["runtime/reader.py", "actors/workflow/run_index.py"]
    assert names.managers == {"durable_view", "view"}
    assert [file for file in files if not Sections(parse(ROOT / file), names).lines] == []


def found_in(text: str) -> list[str]:
    """What is wrong with a source text."""
    tree = ast.parse(text)
    return [what for _, what in Sections(tree, Names([tree])).wrong]


MANAGER = """
import lmdb, contextlib
@contextlib.contextmanager
def snapshot(env):
    with env.begin() as txn:
        yield txn
@contextlib.contextmanager
def outer(env):
    with snapshot(env) as txn:
        yield txn
"""


@pytest.mark.parametrize(
    ("what", "statement"),
    [
        ("await", "await g(txn)"),
        ("await", "x = [1, await g()]"),
        ("await", "for x in txn.cursor(): await g(x)"),
        ("await", "with other(): await g()"),
        ("async for", "async for x in g(): pass"),
        ("async for", "x = {y async for y in g()}"),
        ("async with", "async with g(): pass"),
        ("yield", "yield txn.get(b'k')"),
        ("yield", "x = yield"),
    ],
)
def test_leaving_a_section_is_caught(what: str, statement: str) -> None:
    """Each way to leave code while a snapshot is open is told, once."""
    text = f"import lmdb\nasync def f(env):\n with env.begin() as txn:\n  {statement}"
    assert found_in(text) == [f"has {what} in a read section"]


def test_yield_from_in_a_section_is_caught() -> None:
    """So is a generator that hands on another one."""
    text = "import lmdb\ndef f(env):\n with env.begin() as txn:\n  yield from txn.cursor()"
    assert found_in(text) == ["has yield in a read section"]


def test_an_async_manager_in_a_section_is_caught() -> None:
    """A section can't be an async context manager: that is made to be awaited in."""
    text = "import lmdb\n@asynccontextmanager\nasync def f(env):\n with env.begin() as txn:\n  yield"
    assert found_in(text) == ["has yield in a read section"]


@pytest.mark.parametrize(
    ("before", "section"),
    [
        ("import lmdb", "with env.begin():"),
        ("import lmdb", "with env.begin(write=True):"),
        ("import lmdb", "with lmdb.Transaction(env):"),
        ("import lmdb", "with a(), env.begin() as txn, txn.cursor():"),
        ("import lmdb", "with env.begin(), (x if a else b):"),
        ("from lmdb import Environment", "with env.begin():"),
        ("", "with store.environment.lmdb.begin():"),
        ("read = env.lmdb.begin", "with read():"),
        ("self._begin: Begin = env.lmdb.begin", "with self._begin(buffers=True) as txn:"),
        (MANAGER, "with snapshot(env):"),
        (MANAGER, "with a(), self.store.outer(env) as txn:"),
    ],
)
def test_every_kind_of_section_is_known(before: str, section: str) -> None:
    """A section is found whichever way it is opened."""
    text = f"{before}\nasync def f(env):\n {section}\n  await g()"
    assert found_in(text) == ["has await in a read section"]


def test_what_a_with_statement_opens_behind_a_section_is_inside_it() -> None:
    """`with` enters its managers from left to right."""
    behind = "import lmdb\nasync def f(env):\n with env.begin(), (await g()):\n  pass"
    before = "import lmdb\nasync def f(env):\n with (await g()), env.begin():\n  pass"
    assert (found_in(behind), found_in(before)) == (["has await in a read section"], [])


@pytest.mark.parametrize(
    "text",
    [
        "import lmdb\ndef f(env):\n txn = env.begin()\n txn.abort()",
        "import lmdb\ndef f(env):\n return env.begin()",
        "import lmdb\ndef f(env, stack):\n return stack.enter_context(env.begin(buffers=True))",
        "import lmdb\ndef f(env, flag):\n return env.begin(write=flag)",
        MANAGER + "def f(env, stack):\n return stack.enter_context(outer(env))",
    ],
)
def test_a_read_without_an_end_is_caught(text: str) -> None:
    """A read transaction that a `with` statement doesn't end is told: nobody sees where it ends."""
    assert found_in(text) == ["begins a read that no with statement ends"]


@pytest.mark.parametrize(
    "text",
    [
        "import lmdb\nasync def f(env):\n with env.begin() as txn:\n  x = txn.get(b'k')\n await g(x)",
        "import lmdb\ndef f(env):\n with env.begin() as txn:\n  x = list(txn.cursor())\n yield from x",
        "import lmdb\nasync def f(env):\n async with a():\n  with env.begin():\n   pass\n  await g()",
        "import lmdb\ndef f(env):\n with env.begin():\n  async def later():\n   await g()\n return later",
        "import lmdb\ndef f(env):\n env.begin().abort()",
        "import lmdb\ndef f(env):\n txn = env.begin(write=True)\n txn.commit()",
        "async def f(intake):\n await intake.begin('no transaction')",
        "import lmdb\ndef f(txn: lmdb.Transaction):\n for key in txn.cursor():\n  yield key",
        MANAGER,
    ],
)
def test_what_is_allowed_stays_allowed(text: str) -> None:
    """Reads that end before code is left, and what only looks like one, are not told."""
    assert found_in(text) == []
