"""What a piece of Python does, without how it is written: no comments, layout or docstrings."""

import ast
import hashlib
from functools import cache
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager


@cache
def module_digest(code: bytes) -> str:
    """SHA-256 of what a module does; equal for texts that differ in words to readers only."""
    return hashlib.sha256(canonical(ast.parse(code)).encode()).hexdigest()


def as_python(code: str) -> str:
    """A code cell with IPython's magics and commands to the shell as calls of functions."""
    return TransformerManager().transform_cell(code)


def is_python(code: str) -> bool:
    """Whether a code cell is Python alone, without magics of IPython and without a mistake."""
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


def cell_digest(code: str) -> str:
    """SHA-256 of what a code cell does and shows; of its text, where that is not Python.

    A text that stands alone is no docstring here: as the last statement it is shown. A semicolon
    at the end keeps the value of the last statement from being shown.
    """
    if not is_python(code):
        return hashlib.sha256(code.encode()).hexdigest()
    parts = [canonical(statement) for statement in ast.parse(code).body]
    if code.rstrip().endswith(";"):
        parts.append(";")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def canonical(node: Any) -> str:
    """A syntax tree as text, the same in all versions of Python, without docstrings.

    `ast.dump` would not do: younger versions name fields that older ones do not have, and leave
    out some that are empty. Here every empty field is left out.

    Args:
        node: a tree, a list of trees, or the value of a field of a tree.
    """
    if isinstance(node, list):
        return "[" + ",".join(canonical(item) for item in node if not _is_docstring(item)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [
        f"{name}={canonical(value)}"
        for name, value in ast.iter_fields(node)
        if not _is_empty(node, name, value)
    ]
    return f"{type(node).__name__}({','.join(fields)})"


def _is_docstring(node: Any) -> bool:
    """Whether a statement is a text and nothing else, which does nothing."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _is_empty(node: ast.AST, name: str, value: Any) -> bool:
    """Whether a field says nothing; the value of a constant always does."""
    if isinstance(node, ast.Constant):
        return name == "kind"
    return value is None or value == []
