"""Code written for the reader: no literal is unpacked, no comprehension assigns, no field is read by its place."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = ("pricing", "etl", "pipelines", "serving", "monitoring", "console", "simulation", "deploy", "benchmarks")
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
PLACES = range(3, 100)  # beyond the third, fields have names; larger numbers are keys, such as codes of HTTP


def faults(code: str) -> Iterator[str]:
    """Finds what a reader would have to solve, each with its line."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Starred) and isinstance(node.value, (ast.Tuple, ast.List, ast.Set)):
            yield f"{node.lineno}: a literal is unpacked where its items could stand"
        if isinstance(node, COMPREHENSIONS) and any(isinstance(inner, ast.NamedExpr) for inner in ast.walk(node)):
            yield f"{node.lineno}: a comprehension assigns"
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) != "Literal" and _by_place(node.slice):
            yield f"{node.lineno}: a field is read by its place"


def _by_place(index: ast.expr) -> bool:
    """Finds a constant place, or a slice between two constants, beyond the third field."""
    if isinstance(index, ast.Slice):
        return isinstance(index.lower, ast.Constant) and _is_place(index.upper)
    return _is_place(index)


def _is_place(index: ast.expr | None) -> bool:
    return isinstance(index, ast.Constant) and isinstance(index.value, int) and index.value in PLACES


def test_no_code_has_to_be_solved() -> None:
    files = [path for program in PROGRAMS for path in sorted((ROOT / program).rglob("*.py"))]
    found = [f"{path.relative_to(ROOT)}:{fault}" for path in files for fault in faults(path.read_text("utf-8"))]

    assert found == []
