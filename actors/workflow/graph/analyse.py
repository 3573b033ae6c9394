"""From a workflow's source to its graph.

`graph_of_class(Order)` reads the source of a class and of its bases, wherever they are written.
`graph_of_source(text, "Order")` reads one module's text and imports nothing.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ....storage.errors import CallerError
from ..lint import Finding, lint_source
from ..module_names import FunctionNode, ModuleNames
from ..workflow import Workflow
from .model import GraphWarning, Node, Setting, WorkflowGraph
from .scope import Function, Method, Scope, method_context
from .source_text import setting
from .walk import Walk

_OPTIONS: Final = (
    "about", "title", "description", "author", "retry", "step_timeout", "max_running", "max_steps",
    "deadline", "events", "states", "retention",
)  # fmt: skip


def graph_of_class(workflow: type[Workflow]) -> WorkflowGraph:
    """The flow of a workflow, from its source.

    Raises `CallerError` when there is no source, as in an interactive session.
    """
    parts: list[tuple[ModuleNames, ast.ClassDef]] = []
    findings: list[Finding] = []
    for one in workflow.__mro__:
        if one is Workflow or not issubclass(one, Workflow):
            break
        file = _file_of(one)
        source = _read(file)
        module = _module(source, file)
        function = module.functions.get(one.__name__)
        if function is not None and module.is_workflow_function(one.__name__):
            return _of_function(module, function, None, lint_source(source, file, only=one.__name__))
        definition = _class_at(module, one)
        parts.append((module, definition))
        findings += lint_source(source, file, only=definition.name)
    return _of_class(workflow.__name__, parts, findings)


def graph_of_source(
    source: str, name: str | None = None, *, file: str = "<source>", context: str | None = None
) -> WorkflowGraph:
    """The flow of a workflow in the source of one module.

    name      the class, or the function that is a workflow; may be left out when there is one class only
    context   the parameter of a function by which it knows the workflow; its first one by default

    Raises `CallerError` when the source is no Python, and when there is no such workflow.
    """
    module = _module(source, file)
    if name is None:
        found = module.workflows()
        if len(found) != 1:
            raise CallerError(
                f"{file} has {len(found) or 'no'} workflows; say which: {', '.join(found) or '(none)'}"
            )
        (name,) = found
    if name in module.functions:
        return _of_function(module, module.functions[name], context, lint_source(source, file, only=name))
    if name not in module.classes or "run" not in module.methods(name):
        raise CallerError(f"{file} has no workflow {name!r} with a run(); got {', '.join(module.classes)}")
    parts = [(module, module.classes[one]) for one in module.line(name)]
    return _of_class(name, parts, lint_source(source, file, only=name))


# -- classes and functions -----------------------------------------------------------------------------------


def _of_class(
    name: str, parts: Sequence[tuple[ModuleNames, ast.ClassDef]], findings: list[Finding]
) -> WorkflowGraph:
    """The graph of run(), with the methods of a class and its bases, nearest first."""
    methods: dict[str, Method] = {}
    options: dict[str, Setting] = {}
    for module, definition in reversed(parts):
        for node in definition.body:
            if isinstance(node, FunctionNode):
                methods[node.name] = Method(node, module)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Name) and target.id in _OPTIONS:
                        options[target.id] = setting(node.value)
    run = methods.get("run")
    if run is None:
        raise CallerError(f"workflow {name} has no run() with a source that can be read")
    updates = [_method(name, one, methods) for one in methods if _is_update(methods[one])]
    return _graph(name, _method(name, "run", methods), options, findings, updates)


def _method(owner: str, name: str, methods: dict[str, Method]) -> Function:
    node, module = methods[name]
    return Function(f"{owner}.{name}", node, Scope(module, methods, node, owner, method_context(node)))


def _is_update(method: Method) -> bool:
    """Whether a method may be called from outside while the run goes on, and may have steps."""
    names = [method.module.full_name(one, frozenset()) or "" for one in method.node.decorator_list]
    return any(name.rpartition(".")[2] == "update" for name in names)


def _of_function(
    module: ModuleNames, node: FunctionNode, context: str | None, findings: list[Finding]
) -> WorkflowGraph:
    parameters = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    if context is None:
        context = parameters[0] if parameters else ""
    elif context not in parameters:
        raise CallerError(
            f"{node.name}() has no parameter {context!r}; got {', '.join(parameters) or 'none'}"
        )
    scope = Scope(module, {}, node, node.name, frozenset({context}))
    options = {
        one.arg: setting(one.value)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call)
        for one in decorator.keywords
        if one.arg in _OPTIONS
    }
    return _graph(node.name, Function(node.name, node, scope), options, findings)


def _graph(
    name: str,
    entry: Function,
    options: dict[str, Setting],
    findings: list[Finding],
    updates: Sequence[Function] = (),
) -> WorkflowGraph:
    try:
        counted = Walk(entry, updates)
        counted.go()
        once = frozenset(node for node, times in counted.calls.items() if times == 1)
        walk = Walk(entry, updates, once)
        walk.go()
    except RecursionError:
        raise CallerError(f"the source of {name} is nested too deeply to be looked at") from None
    nodes, edges, blocks = walk.draft.finished()
    file = entry.scope.module.file
    return WorkflowGraph(
        name, file, entry.node.lineno, nodes, edges, blocks, options, _warnings(findings, nodes, file)
    )


def _warnings(findings: list[Finding], nodes: tuple[Node, ...], file: str) -> tuple[GraphWarning, ...]:
    """The lint's findings, each at the last node that begins before it on its lines."""
    found: dict[GraphWarning, None] = {}
    for finding in findings:
        elsewhere = None if finding.file == file else finding.file
        here = [
            node for node in nodes if node.file == elsewhere and node.line <= finding.line <= node.end_line
        ]
        node = max(here, key=lambda one: (one.line, -one.id)).id if here else None
        text = f"{finding.does}: {finding.rule.why}; use {finding.rule.instead}"
        found.setdefault(GraphWarning(finding.line, text, node, elsewhere))
    return tuple(found)


# -- sources -------------------------------------------------------------------------------------------------


def _module(source: str, file: str) -> ModuleNames:
    try:
        return ModuleNames(ast.parse(source, file), file)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CallerError(f"{file} can't be read as Python: {error}") from error


def _file_of(kind: type) -> str:
    try:
        return inspect.getsourcefile(kind) or inspect.getfile(kind)
    except (TypeError, OSError) as error:
        raise CallerError(f"workflow {kind.__name__} has no source file: {error}") from error


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CallerError(f"{file} can't be read: {error}") from error


def _class_at(module: ModuleNames, kind: type) -> ast.ClassDef:
    """The definition of a class; of several with one name the one at its place."""
    definition = module.classes.get(kind.__name__)
    if definition is None:
        raise CallerError(
            f"{module.file} has no class {kind.__qualname__} at its top; a class that a function makes can't "
            f"be drawn"
        )
    return definition
