"""The fingerprint of a workflow's code: tells whether `run()` is still what drove a run before.

It covers the bytecode of all functions in the bodies of the class and of its bases up to `Workflow`: `run()`,
helper methods, properties, and the functions within them; with their constants and names.
It leaves out what does not change what `run()` does: comments, line numbers, file names, docstrings of
methods.  And what lies elsewhere: functions of modules (bodies of steps among them), constants, attributes of
the class, defaults of parameters.

It is the same in all processes and on all machines with the same minor version of Python (and the same `-O`);
another minor version compiles other bytecode.
"""

from __future__ import annotations

import inspect
from hashlib import blake2b
from types import CodeType, FunctionType
from typing import Any, Final, cast

# 48 bits: it tells versions of one class from each other, and is stored with every run.
_DIGEST_BYTES: Final = 6


def fingerprint(workflow: type, base: type) -> str:
    """The fingerprint of a class and its bases below `base`, as 12 hexadecimal digits."""
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for one in workflow.__mro__:
        if not issubclass(one, base) or one is base:
            continue
        for name, member in sorted(vars(one).items()):
            for function in _functions(member):
                digest.update(_text(name) + _code(function.__code__, function.__doc__))
        digest.update(b"class")
    return digest.hexdigest()


def _functions(member: object) -> list[FunctionType]:
    """The functions that a member of a class is made of; wrappers and what they wrap."""
    found: list[FunctionType] = []
    if isinstance(member, property):
        waiting: list[object] = [member.fget, member.fset, member.fdel]
    elif isinstance(member, (staticmethod, classmethod)):
        waiting = [cast("object", cast("Any", member).__func__)]
    else:
        waiting = [member]
    for one in waiting:
        while inspect.isfunction(one):
            found.append(one)
            one = getattr(one, "__wrapped__", None)
    return found


def _code(code: CodeType, docstring: str | None = None) -> bytes:
    constants = list(code.co_consts)
    if docstring is not None and constants and constants[0] == docstring:
        constants[0] = None
    return _joined(
        code.co_code,
        code.co_exceptiontable,
        *(
            repr((code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)).encode(),
            *map(_text, (*code.co_names, *code.co_varnames, *code.co_freevars, *code.co_cellvars)),
            *map(_constant, constants),
        ),
    )


def _constant(value: object) -> bytes:
    if isinstance(value, CodeType):
        return _code(value)
    if isinstance(value, tuple):
        return _joined(*map(_constant, cast("tuple[object, ...]", value)))
    if isinstance(value, frozenset):  # lies in another order in each process
        return _joined(*sorted(map(_constant, cast("frozenset[object]", value))))
    return _text(f"{type(value).__name__} {value!r}")


def _text(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _joined(*parts: bytes) -> bytes:
    return b"(%b)" % b"".join(b"%d:%b" % (len(part), part) for part in parts)
