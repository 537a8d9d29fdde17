"""The examples in docstrings and the Python blocks in documents run, and give what they show."""

import doctest
import importlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("pricing", "etl", "pipelines", "serving", "monitoring", "simulation")
WITH_EXAMPLE = (
    "pricing.config.load_config",
    "pricing.csv_text.quote_formulas",
    "pricing.markdown_text.escape_markdown",
    "pricing.data.build.build_panel",
    "pricing.data.contract.check",
    "pricing.data.load.load_panel_from",
    "pricing.data.net_price.net_price",
    "pricing.data.panel.save_panel",
    "pricing.data.quality.judge",
    "pricing.decision.cold_start.prior_demand",
    "pricing.decision.explanation.round_together",
    "pricing.decision.last_price.last_prices",
    "pricing.decision.pricer.Pricer.price",
    "pricing.decision.pricer.Pricer.simulate",
    "pricing.decision.product_facts.ProductFacts.from_panel",
    "pricing.decision.switches.Switches.of",
    "pricing.demand.evaluation.sales_score",
    "pricing.demand.folds.walk_forward",
    "pricing.demand.shrinkage.shrink",
    "simulation.market.simulate",
)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PROMPT = re.compile(r"^ *>>> ", re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITH_BLOCKS = ("docs/market.md",)


def source_of(dotted: str) -> Path:
    """The file of the module that a function or method is in."""
    parts = dotted.split(".")
    files = (ROOT.joinpath(*parts[:length]).with_suffix(".py") for length in range(len(parts), 0, -1))
    return next(path for path in files if path.is_file())


def examples_of(dotted: str) -> doctest.DocTest:
    """The examples in the docstring of a function or method.

    They start without any names, so that what they need is imported in sight and a reader can paste them.
    """
    module = ".".join(source_of(dotted).relative_to(ROOT).with_suffix("").parts)
    found: Any = importlib.import_module(module)
    for name in dotted.removeprefix(f"{module}.").split("."):
        found = getattr(found, name)
    return doctest.DocTestParser().get_doctest(found.__doc__ or "", {}, dotted, None, 0)


def complaints(test: doctest.DocTest) -> str:
    """What the examples gave instead of what they show; empty where they agree."""
    said: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=said.append)
    return "".join(said)


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.py")


@pytest.mark.parametrize("dotted", WITH_EXAMPLE)
def test_an_example_gives_what_it_shows(dotted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # examples may write files
    test = examples_of(dotted)

    assert test.examples, f"{dotted} has no example in its docstring"
    assert complaints(test) == ""


def test_every_example_in_the_sources_is_run() -> None:
    written = {path: len(PROMPT.findall(path.read_text(encoding="utf-8"))) for path in sources()}
    run: Counter[Path] = Counter()
    for dotted in WITH_EXAMPLE:
        run[source_of(dotted)] += len(examples_of(dotted).examples)

    assert {path: count for path, count in written.items() if count} == run


def test_an_example_that_shows_something_else_is_found() -> None:
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)

    assert "Expected:\n    3\nGot:\n    2\n" in complaints(test)


@pytest.mark.parametrize("document", WITH_BLOCKS)
def test_the_python_blocks_of_a_document_run_one_after_another(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))
    names: dict[str, Any] = {}

    assert blocks
    for block in blocks:
        exec(compile(block, document, "exec"), names)


def test_every_document_with_python_blocks_is_run() -> None:
    documents = [ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]  # the README's is run by its journey
    with_blocks = {
        path.relative_to(ROOT).as_posix() for path in documents if BLOCK.search(path.read_text(encoding="utf-8"))
    }

    assert with_blocks == set(WITH_BLOCKS)
