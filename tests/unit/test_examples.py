"""The examples in docstrings and the Python blocks in documents run, and give what they show."""

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("pricing", "etl", "pipelines", "serving", "monitoring", "simulation")
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PROMPT = re.compile(r"^ *>>> ", re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SOURCES = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
WITH_EXAMPLES = [path for path in SOURCES if PROMPT.search((ROOT / path).read_text(encoding="utf-8"))]
DOCUMENTS = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*/*.md"))]  # the README's is run by its journey
WITH_BLOCKS = [path for path in DOCUMENTS if BLOCK.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=str)
def test_an_example_gives_what_it_shows(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # examples may write files
    module = importlib.import_module(".".join(path.with_suffix("").parts))
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)

    # They start without any names, so that what they need is imported in sight and a reader can paste them.
    for test in doctest.DocTestFinder().find(module, globs={}):
        runner.run(test, out=said.append)

    assert "".join(said) == ""
    assert runner.tries == len(PROMPT.findall((ROOT / path).read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", WITH_BLOCKS, ids=lambda path: path.stem)
def test_the_python_blocks_of_a_document_run_one_after_another(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}

    for block in BLOCK.findall(path.read_text(encoding="utf-8")):
        exec(compile(block, path.name, "exec"), names)
