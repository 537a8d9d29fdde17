"""What the documents name exists."""

import ast
import re
from pathlib import Path

import pytest

from pricing.config import load_config

ROOT = Path(__file__).parents[2]
SETTINGS = load_config().model_dump(mode="json")
DOTTED = re.compile(r"`((?:pricing|pipelines|serving|monitoring)\.[\w.]+)`")
LINK = re.compile(r"\]\((?!https?://)([^)#]+)\)")
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("*/README.md")),
]


def exists(dotted: str) -> bool:
    """Whether a dotted name is a setting, a module of ours, or something defined at the top of one."""
    parts = dotted.split(".")
    if parts[1] in SETTINGS.get(parts[0], {}):
        return True
    for length in range(len(parts), 0, -1):
        base = ROOT.joinpath(*parts[:length])
        source = base.with_suffix(".py") if base.with_suffix(".py").exists() else base / "__init__.py"
        if source.exists():
            rest = parts[length:]
            return not rest or rest[0] in _defined(source)
    return False


def _defined(source: Path) -> set[str]:
    tree = ast.parse(source.read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_function_and_file_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")

    assert [name for name in DOTTED.findall(text) if not exists(name)] == []
    assert [link for link in LINK.findall(text) if not (document.parent / link).exists()] == []
