"""What code does, without how it is written: for fingerprints that a reworded sentence must not change."""

import ast
from pathlib import Path


def code_of(path: Path) -> bytes:
    """Return the syntax tree of a Python file without docstrings, comments and formatting, as text."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _has_docstring(
            node.body
        ):
            del node.body[0]
    return ast.dump(tree).encode()


def _has_docstring(body: list[ast.stmt]) -> bool:
    first = body[0] if body else None
    return (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
