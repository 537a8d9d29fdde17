"""What the documents name exists."""

import ast
import re
from pathlib import Path

import pytest

from pricing.config import load_config
from pricing.runtime.command import JOBS

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
def test_every_module_and_function_that_a_document_names_exists(document: Path) -> None:
    named = DOTTED.findall(document.read_text(encoding="utf-8"))

    assert [name for name in named if not exists(name)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_document_links_to_exists(document: Path) -> None:
    links = LINK.findall(document.read_text(encoding="utf-8"))

    assert [link for link in links if not (document.parent / link).exists()] == []


def test_targets_of_make_and_jobs_that_the_documents_name_exist() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)

    named = set(re.findall(r"(?:^|`|&& )make ([a-z-]+)", text, re.MULTILINE))
    jobs = set(re.findall(r"(?:^|`|bin/)pricing ([a-z]+)", text, re.MULTILINE))

    assert (named - set(targets), jobs - JOBS.keys()) == (set(), set())
