"""What the documents name exists."""

import ast
import re
from pathlib import Path

import pytest

from pricing.config import load_config

ROOT = Path(__file__).parents[2]
SETTINGS = load_config().model_dump(mode="json")
DOTTED = re.compile(r"`((?:pricing|pipelines|serving|monitoring)\.[\w.]+)`")
LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted({*ROOT.glob("benchmarks/*.md"), *ROOT.glob("*/README.md")}),
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


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_function_and_file_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = [(document.parent / file if file else document, anchor) for file, anchor in LINK.findall(text)]

    assert [name for name in DOTTED.findall(text) if not exists(name)] == []
    assert [str(file) for file, _ in links if not file.exists()] == []
    assert [f"{file}#{anchor}" for file, anchor in links if anchor and anchor not in anchors(file)] == []


def test_every_document_is_a_page_of_the_site() -> None:
    pages = re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)

    assert {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")} - {*pages} == set()
    assert [page for page in pages if not (ROOT / "docs" / page).exists() and not (ROOT / page).exists()] == []
