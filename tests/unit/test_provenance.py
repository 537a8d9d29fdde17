"""A page of results says which code it was measured with, and that the code has changed since where it has."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.provenance import COMMAND, Provenance, problems, record, sources, stamp, take, write

INNER = '''"""What is measured in the end."""


def double(value: int) -> int:
    """Twice a number."""
    return 2 * value  # as it should be
'''
FILES = {
    "benchmarks/thing.py": "from benchmarks.provenance import stamp\nfrom pricing.outer import report\n\nreport()\n",
    "benchmarks/provenance.py": "PAGE = 1\n",
    "benchmarks/thing.md": "# A thing\n\nMade by `python -m benchmarks.thing`.\n",
    "pricing/__init__.py": '"""The library."""\n',
    "pricing/outer.py": "def report() -> int:\n    from pricing import inner\n\n    return inner.double(1)\n",
    "pricing/inner.py": INNER,
    "pricing/apart.py": "NOBODY = 1\n",
    "config/default.yaml": "demand:\n  steps: 10  # a comment\n",
}
INNER_PATH, SETTINGS_PATH = "pricing/inner.py", "config/default.yaml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small project, whose one page was measured with the code as it stands."""
    for name, text in FILES.items():
        put(tmp_path, name, text)
    record("thing.md", commit=None, root=tmp_path)
    write(tmp_path)
    return tmp_path


def put(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")


def page(root: Path) -> str:
    return (root / "benchmarks" / "thing.md").read_text(encoding="utf-8")


def test_every_page_of_results_says_whether_its_code_has_changed() -> None:
    found = problems()

    assert not found, "\n".join([f"run `{COMMAND} --write` and commit the pages it changes:", *found])


def test_a_page_depends_on_what_its_benchmark_imports_directly_or_not(root: Path) -> None:
    found = sources("thing.md", root=root)

    assert list(found) == ["benchmarks.thing", "config/default.yaml", "pricing", "pricing.inner", "pricing.outer"]


def test_a_source_that_came_or_went_counts_as_changed() -> None:
    before = Provenance("1234567", {"kept": "1", "gone": "2"})

    assert before.changed({"kept": "1", "come": "3"}) == ["come", "gone"]


def test_a_current_page_names_its_code_and_is_not_stale(root: Path) -> None:
    assert problems(root) == []
    assert "by `benchmarks.thing` and what it imports of `benchmarks`, `pricing`" in page(root)
    assert "Stale" not in page(root)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (INNER_PATH, INNER.replace("Twice a number.", "Two times a number.\n\n    Fast.\n    ")),
        (INNER_PATH, INNER.replace('    """Twice a number."""\n', "")),
        (INNER_PATH, INNER.replace("  # as it should be", "")),
        (INNER_PATH, INNER.replace("2 * value", "(\n        2\n        * value\n    )")),
        (SETTINGS_PATH, "# another comment\ndemand: {steps: 10}\n"),
        ("pricing/apart.py", "NOBODY = 2\n"),
        ("benchmarks/provenance.py", "PAGE = 2\n"),
    ],
    ids=["docstring", "docstring gone", "comment", "formatting", "settings as written", "not imported", "stamping"],
)
def test_what_changes_no_figure_leaves_a_page_current(root: Path, name: str, text: str) -> None:
    put(root, name, text)

    assert problems(root) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (INNER_PATH, INNER.replace("2 * value", "3 * value")),
        (INNER_PATH, INNER.replace("def double", "@staticmethod\ndef double")),
        (SETTINGS_PATH, "demand:\n  steps: 11\n"),
        ("pricing/outer.py", "def report() -> int:\n    return 2\n"),
    ],
    ids=["number", "decorator", "setting", "import gone"],
)
def test_a_page_whose_code_changed_must_carry_the_line(root: Path, name: str, text: str) -> None:
    put(root, name, text)

    before = problems(root)
    write(root)

    assert len(before) == 1
    assert f"{COMMAND} --write" in before[0]
    assert "*Stale since `" in page(root)
    assert problems(root) == []


def test_a_further_change_asks_for_nothing_more(root: Path) -> None:
    put(root, INNER_PATH, INNER.replace("2 * value", "3 * value"))
    write(root)
    once = page(root)

    put(root, SETTINGS_PATH, "demand:\n  steps: 11\n")

    assert problems(root) == []
    write(root)
    assert page(root) == once


def test_a_page_that_says_stale_and_is_not_is_refused(root: Path) -> None:
    put(root, INNER_PATH, INNER.replace("2 * value", "3 * value"))
    current = page(root)
    write(root)

    put(root, INNER_PATH, INNER)

    assert len(problems(root)) == 1
    write(root)
    assert page(root) == current


def test_a_page_without_a_record_is_refused_by_name(root: Path) -> None:
    put(root, "benchmarks/more/other.md", "# Other\n")

    assert problems(root) == [f"benchmarks/more/other.md names no code: {COMMAND} --record more/other.md [--commit …]"]


def test_a_record_without_its_page_is_dropped(root: Path) -> None:
    (root / "benchmarks" / "thing.md").unlink()

    assert len(problems(root)) == 1
    write(root)
    assert problems(root) == []


def test_an_unknown_page_or_commit_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match=r"pages are thing\.md"):
        record("thin.md", commit=None, root=root)
    with pytest.raises(ValueError, match="no commit 1234567"):
        record("thing.md", commit="1234567", root=root)


def test_a_page_without_a_benchmark_of_its_name_is_refused(root: Path) -> None:
    put(root, "benchmarks/orphan.md", "# Nobody makes this\n")

    with pytest.raises(ValueError, match=r"benchmarks\.orphan, and there is none"):
        record("orphan.md", commit=None, root=root)


def test_a_page_whose_benchmark_is_gone_is_stale(root: Path) -> None:
    (root / "benchmarks" / "thing.py").unlink()

    write(root)

    assert "*Stale since `" in page(root)


def remeasured(root: Path, *, parts: Callable[[Provenance], list[str | None]]) -> None:
    """Changes the code, then writes the page anew as a benchmark does."""
    put(root, INNER_PATH, INNER.replace("2 * value", "3 * value"))
    made = take("thing.md", root=root)
    put(root, "benchmarks/thing.md", "# A thing\n\nNew figures.\n")
    stamp(root / "benchmarks" / "thing.md", made, parts=parts(made), root=root)


def test_a_page_measured_anew_is_current(root: Path) -> None:
    remeasured(root, parts=lambda made: [made.digest, made.digest])

    assert "Stale" not in page(root)
    assert page(root).endswith("\n\nNew figures.\n")
    assert problems(root) == []


def test_a_page_that_keeps_older_figures_stays_stale(root: Path) -> None:
    remeasured(root, parts=lambda made: [made.digest, None])

    assert "*Stale since `" in page(root)
    assert problems(root) == []


def test_a_page_whose_code_changed_while_it_was_measured_is_stale_at_once(root: Path) -> None:
    made = take("thing.md", root=root)
    put(root, INNER_PATH, INNER.replace("2 * value", "3 * value"))

    stamp(root / "benchmarks" / "thing.md", made, root=root)

    assert "*Stale since `" in page(root)
    assert problems(root) == []


def test_a_page_elsewhere_names_its_code_and_is_not_recorded(root: Path, tmp_path: Path) -> None:
    put(root, "build/thing.md", "# A thing\n\nTried out.\n")
    records = (root / "benchmarks" / "provenance.json").read_text(encoding="utf-8")

    stamp(root / "build" / "thing.md", take("thing.md", root=root), root=root)

    assert "*Measured at `" in (root / "build" / "thing.md").read_text(encoding="utf-8")
    assert (root / "benchmarks" / "provenance.json").read_text(encoding="utf-8") == records


def test_a_page_can_be_recorded_at_an_earlier_commit(root: Path) -> None:
    git = ["git", "-C", str(root), "-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "first"]):
        subprocess.run([*git, *words], check=True)
    name = subprocess.run([*git, "rev-parse", "--short=7", "HEAD"], check=True, capture_output=True, text=True).stdout
    put(root, INNER_PATH, INNER.replace("2 * value", "3 * value"))

    record("thing.md", commit="HEAD", root=root)
    write(root)

    assert f"*Stale since `{name.strip()}`: " in page(root)
    assert take("thing.md", root=root).commit == f"{name.strip()} (not all committed)"


def test_a_module_has_the_same_hash_in_every_python(root: Path) -> None:
    put(root, INNER_PATH, 'def f(x: int, *, y: str = "") -> str:\n    return f"{x!r:>{y}}" f"a{x}" "b"\n')

    assert sources("thing.md", root=root)["pricing.inner"] == "270da764600e"
