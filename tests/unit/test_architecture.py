"""Who may import whom, read from the sources: five programs around one library, and one door per heavy library."""

import ast
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("etl", "pipelines", "serving", "monitoring", "console")
PACKAGES = ("pricing", *PROGRAMS, "simulation")
INFRASTRUCTURE = "deploy"
EVERYTHING = (*PACKAGES, INFRASTRUCTURE, "tests", "benchmarks")
# Each may import itself and those before it.
INWARD = (
    *(
        "errors",
        "arrays",
        "fileio",
        "paths",
        "config_models",
        "config",
        "served_config",
        "csv_text",
        "markdown_text",
        "objects",
    ),
    *("data", "demand", "decision", "decision_log", "registry", "runtime"),
)
# Tests that are of a benchmark's program or of what only benchmarks have, and may import it.
OF_BENCHMARKS = {
    "tests.integration.test_demand_benchmark",
    "tests.unit.test_demand_tables",
    "tests.unit.test_forecast_benchmark",
    "tests.unit.test_foreign_market",
    "tests.unit.test_judged_confidence",
}
# Heavy library → the modules that may import it; a name that ends in a dot stands for all below it.
DOORS = {
    "keras": ("pricing.demand.network",),
    "tensorflow": ("pricing.demand.network",),
    "lightgbm": ("pricing.demand.ensemble",),
    "mlflow": (
        *("pricing.registry.mlflow_registry", "pricing.registry.pyfunc", "pricing.runtime.", "pipelines."),
        "deploy.mlflow_server",  # runs in MLflow's image
    ),
    "optuna": ("pipelines.tune",),
    "shap": ("pipelines.reports.plots",),
    "flask": ("serving.", "console."),
    "granian": ("serving.__main__", "console.app"),
    "boto3": ("pricing.runtime.aws", "pricing.objects"),
    "httpx2": ("etl.http", "pricing.runtime.post", "pricing.runtime.mlflow_runs"),
    "stamina": ("etl.http", "pricing.runtime.post"),
    "duckdb": ("etl.", "pricing.decision_log.read"),
    "adbc_driver_postgresql": ("etl.extract",),
    "jinja2": ("pipelines.reports.", "monitoring.report"),
    "aws_cdk": ("deploy.",),
    "cdk_nag": (),
}
# In these programs any one module may be the door, but no second one.
ONE_DOOR = {"evidently": "monitoring", "mlflow": "monitoring"}
SERVING_NEVER = {
    "keras",
    "tensorflow",
    "pandas",
    "scipy",
    "sklearn",
    "shap",
    "matplotlib",
    "optuna",
    "evidently",
    "lightgbm",
    "pyarrow",
    "mlflow",
    "sqlalchemy",
    "duckdb",
}


@dataclass(frozen=True)
class Import:
    """One import statement: who, what, and whether it runs as soon as the importing module is imported."""

    module: str
    target: str
    at_import: bool


def modules(root: Path, packages: tuple[str, ...] = PACKAGES) -> dict[str, Path]:
    """Every module of the packages, by its dotted name; a package is named without `__init__`."""
    found = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path, packages: tuple[str, ...] = PACKAGES) -> list[Import]:
    found = modules(root, packages)
    known = frozenset(found)
    return [
        each
        for name, path in found.items()
        for each in _imports_of(name, path.read_text(encoding="utf-8"), known, package=path.name == "__init__.py")
    ]


@cache
def _imports_of(name: str, source: str, known: frozenset[str], *, package: bool) -> tuple[Import, ...]:
    return tuple(_walk(name, _parsed(source), known, package=name if package else name.rpartition(".")[0]))


@cache
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def _walk(name: str, tree: ast.Module, known: frozenset[str], *, package: str) -> Iterator[Import]:
    pending: list[tuple[ast.AST, bool]] = [(tree, True)]
    while pending:
        node, at_import = pending.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, at_import)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]) if base else ".".join(above)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield Import(name, whole if whole in known else base, at_import)
        for child in ast.iter_child_nodes(node):
            runs = not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not _for_types_only(
                node
            )
            pending.append((child, at_import and runs))


def _for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def broken_arrows(root: Path) -> list[str]:
    """Every import that the architecture forbids, one sentence each."""
    found = imports(root, (*PACKAGES, INFRASTRUCTURE))
    return [
        *_infrastructure_apart(found),
        *_programs_apart(found),
        *_library_inward(found),
        *_simulation_apart(found),
        *_doors(found),
        *_second_doors(found),
        *_serving_is_light(found),
    ]


def beside_the_kit(found: list[Import]) -> list[str]:
    """Every import by which tests and benchmarks know more of each other than tests/kit, one sentence each."""
    wrong = []
    for each in found:
        here, there = _top(each.module), _top(each.target)
        kit = _within(each.module, "tests.kit")
        if here == "benchmarks" and there == "tests" and not _within(each.target, "tests.kit"):
            wrong.append(f"{each.module} imports {each.target}: benchmarks may know of tests the kit alone")
        elif here == "tests" and there == "benchmarks" and each.module not in OF_BENCHMARKS:
            wrong.append(f"{each.module} imports {each.target}: what both need belongs into tests/kit")
        elif kit and there == "tests" and not _within(each.target, "tests.kit"):
            wrong.append(f"{each.module} imports {each.target}: the kit knows no tests")
        elif here in (*PROGRAMS, "pricing", "simulation") and there in ("tests", "benchmarks"):
            wrong.append(f"{each.module} imports {each.target}: what is shipped knows no {there}")
    return wrong


def loading_tensorflow(found: list[Import]) -> list[str]:
    """The chains of imports by which collecting a unit test loads Keras or TensorFlow, which takes seconds."""
    tests = sorted({each.module for each in found if each.module.startswith("tests.unit.")})
    chains = [path for test in tests for path in _reached(test, found)]
    return [" → ".join(path) for path in chains if _top(path[-1]) in ("keras", "tensorflow")]


def _within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def _programs_apart(found: list[Import]) -> Iterator[str]:
    for each in found:
        here, there = _top(each.module), _top(each.target)
        if there in PROGRAMS and here != there:
            yield f"{each.module} imports {each.target}: {here} must not know {there}"


def _infrastructure_apart(found: list[Import]) -> Iterator[str]:
    """The stacks describe what runs and are no part of it: they know nothing of us, and nothing of us knows them."""
    for each in found:
        here, there = _top(each.module), _top(each.target)
        if (here == INFRASTRUCTURE) != (there == INFRASTRUCTURE) and {here, there} & set(PACKAGES):
            yield f"{each.module} imports {each.target}: {INFRASTRUCTURE} stands apart"


def _library_inward(found: list[Import]) -> Iterator[str]:
    for each in found:
        here, there = _layer(each.module), _layer(each.target)
        if here and there and INWARD.index(there) > INWARD.index(here):
            yield f"{each.module} imports {each.target}: {here} lies inside {there}"


def _simulation_apart(found: list[Import]) -> Iterator[str]:
    """Simulated markets know data, errors and arrays alone; neither the library nor serving knows them."""
    for each in found:
        here, there = _top(each.module), _top(each.target)
        if there == "simulation" and here in ("pricing", "serving"):
            yield f"{each.module} imports {each.target}: {here} must not know simulation"
        if here == "simulation" and there == "pricing" and _layer(each.target) not in ("data", "errors", "arrays"):
            yield f"{each.module} imports {each.target}: simulation may know pricing's data, errors and arrays only"


def _doors(found: list[Import]) -> Iterator[str]:
    for each in found:
        library = _top(each.target)
        allowed = DOORS.get(library)
        if allowed is None or ONE_DOOR.get(library) == _top(each.module):
            continue
        if not any(
            f"{each.module}.".startswith(door) if door.endswith(".") else each.module == door for door in allowed
        ):
            yield f"{each.module} imports {each.target}: only {', '.join(allowed)} may"


def _second_doors(found: list[Import]) -> Iterator[str]:
    for library, program in ONE_DOOR.items():
        inside = sorted(
            {each.module for each in found if _top(each.target) == library and _top(each.module) == program}
        )
        if len(inside) > 1:
            yield f"{', '.join(inside)} import {library}: one module of {program} may"
        for each in found:
            if library not in DOORS and _top(each.target) == library and _top(each.module) != program:
                yield f"{each.module} imports {each.target}: only {program} may"


def _serving_is_light(found: list[Import]) -> Iterator[str]:
    for start in sorted({each.module for each in found if _top(each.module) == "serving"}):
        for path in _reached(start, found):
            library = _top(path[-1])
            if library in SERVING_NEVER:
                yield f"{' → '.join(path)}: serving must not load {library}"


def _reached(start: str, found: list[Import]) -> Iterator[list[str]]:
    """The chains of imports that importing `start` sets off, one chain for each module or library reached."""
    targets: dict[str, set[str]] = {}
    for each in found:
        if each.at_import:
            targets.setdefault(each.module, set()).add(each.target)
    seen = {start}
    pending = [[start]]
    while pending:
        path = pending.pop()
        yield path
        for target in sorted(targets.get(path[-1], set())):
            for step in (*_packages_above(target), target):
                if step not in seen:
                    seen.add(step)
                    pending.append([*path, step])


def _packages_above(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _top(name: str) -> str:
    return name.partition(".")[0]


def _layer(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "pricing" and len(parts) > 1 and parts[1] in INWARD else None


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages to break. A second door exists only beside a first one, so the first is made sure of."""
    root = tmp_path_factory.mktemp("tree")
    for package in (*PACKAGES, INFRASTRUCTURE):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    _append(root / "monitoring" / "first_door.py", "import evidently")
    return root


@pytest.fixture(scope="module")
def before(tree: Path) -> list[str]:
    """What is broken in the copy already."""
    return broken_arrows(tree)


@pytest.fixture(scope="module")
def all_imports() -> list[Import]:
    return imports(ROOT, EVERYTHING)


def test_every_import_follows_the_arrows() -> None:
    assert broken_arrows(ROOT) == []


def test_tests_and_benchmarks_share_the_kit_alone(all_imports: list[Import]) -> None:
    assert beside_the_kit(all_imports) == []


@pytest.mark.parametrize(
    ("module", "target", "complaint"),
    [
        ("benchmarks.demand", "tests.unit.test_pricer", "benchmarks may know of tests the kit alone"),
        ("benchmarks.demand", "tests.kitchen", "benchmarks may know of tests the kit alone"),
        ("tests.unit.test_pricer", "benchmarks.demand", "belongs into tests/kit"),
        ("tests.kit.panels", "benchmarks.demand", "belongs into tests/kit"),
        ("tests.kit.panels", "tests.unit.test_pricer", "the kit knows no tests"),
        ("pricing.config", "tests.kit.panels", "what is shipped knows no tests"),
        ("serving.app", "benchmarks.demand", "what is shipped knows no benchmarks"),
    ],
)
def test_an_import_beside_the_kit_is_found(module: str, target: str, complaint: str) -> None:
    (found,) = beside_the_kit([Import(module, target, at_import=False)])

    assert complaint in found


def test_no_unit_test_loads_tensorflow(all_imports: list[Import]) -> None:
    assert loading_tensorflow(all_imports) == []


def test_a_unit_test_that_loads_tensorflow_on_a_detour_is_found() -> None:
    test, between = "tests.unit.test_it", "pricing.demand.training"
    detour = [Import(test, between, at_import=True), Import(between, "keras", at_import=True)]

    assert loading_tensorflow(detour) == [f"{test} → {between} → keras"]


def test_every_module_of_the_library_belongs_to_a_layer() -> None:
    strays = [name for name in modules(ROOT) if name.startswith("pricing.") and _layer(name) is None]

    assert strays == []


def test_serving_needs_nothing_outside_its_lock() -> None:
    lock = (ROOT / "requirements" / "serving.txt").read_text(encoding="utf-8")
    locked = {line.partition("==")[0].lower() for line in lock.splitlines() if "==" in line}
    distributions = packages_distributions()
    found = imports(ROOT)
    ours = {each.module for each in found} | set(PACKAGES)
    libraries = {
        _top(path[-1])
        for start in ours
        if _top(start) == "serving"
        for path in _reached(start, found)
        if path[-1] not in ours
    } - {*sys.stdlib_module_names, *PACKAGES}

    dashed = {name: {each.lower().replace("_", "-") for each in distributions.get(name, [])} for name in libraries}
    missing = {name for name in libraries if not dashed[name] & locked}

    assert missing == set()


@pytest.mark.parametrize(
    ("module", "statement", "complaint"),
    [
        ("pricing/data/panel.py", "import pipelines.train", "pricing must not know pipelines"),
        ("pipelines/__init__.py", "from serving import app", "pipelines must not know serving"),
        ("serving/__init__.py", "from monitoring import join", "serving must not know monitoring"),
        ("monitoring/__init__.py", "import pipelines", "monitoring must not know pipelines"),
        ("pricing/data/load.py", "import simulation.market", "pricing must not know simulation"),
        ("simulation/foreign.py", "from pricing.decision import pricer", "simulation may know pricing's data"),
        ("pricing/errors.py", "from pricing.config import Config", "errors lies inside config"),
        ("pricing/data/panel.py", "from pricing import demand", "data lies inside demand"),
        ("pricing/data/panel.py", "from ..demand import curve", "data lies inside demand"),
        (
            "pricing/demand/curve.py",
            "def f():\n    from pricing.decision import request",
            "demand lies inside decision",
        ),
        ("pricing/decision/request.py", "import pricing.registry", "decision lies inside registry"),
        ("pricing/decision/request.py", "import keras", "only pricing.demand.network may"),
        ("pipelines/__init__.py", "from tensorflow import data", "only pricing.demand.network may"),
        ("pricing/registry/version.py", "def f():\n    import mlflow", "only pricing.registry.mlflow_registry"),
        ("pricing/data/panel.py", "from mlflow.tracking import MlflowClient", "only pricing.registry.mlflow_registry"),
        ("pipelines/__init__.py", "import optuna", "only pipelines.tune"),
        ("pricing/decision/request.py", "import flask", "only serving., console. may"),
        ("console/words.py", "import serving.auth", "console must not know serving"),
        ("pricing/data/panel.py", "import evidently", "only monitoring may"),
        ("pipelines/__init__.py", "import boto3", "only pricing.runtime.aws, pricing.objects may"),
        ("monitoring/__init__.py", "import evidently", "one module of monitoring may"),
        ("monitoring/__init__.py", "import boto3", "only pricing.runtime.aws, pricing.objects may"),
        (
            "pipelines/__init__.py",
            "import httpx2",
            "only etl.http, pricing.runtime.post, ",
        ),
        ("pipelines/__init__.py", "import duckdb", "only etl., pricing.decision_log.read may"),
        ("pipelines/__init__.py", "from etl.run import run", "pipelines must not know etl"),
        ("etl/__init__.py", "import pipelines.commands", "etl must not know pipelines"),
        ("serving/__init__.py", "import tensorflow", "only pricing.demand.network may"),
        (
            "serving/__init__.py",
            "from pricing.registry import mlflow_registry",
            "serving must not load",
        ),
        ("deploy/app.py", "from serving.settings import Settings", "deploy stands apart"),
        ("pricing/paths.py", "from deploy.environment import JOBS", "deploy stands apart"),
        ("monitoring/__init__.py", "import aws_cdk", "only deploy. may"),
        ("pricing/errors.py", "import pandas as pd", "serving must not load pandas"),
        ("pricing/__init__.py", "from scipy import stats", "serving must not load scipy"),
    ],
)
def test_a_broken_arrow_is_found(tree: Path, before: list[str], module: str, statement: str, complaint: str) -> None:
    path = tree / module
    source = path.read_text(encoding="utf-8")

    _append(path, statement)
    news = [each for each in broken_arrows(tree) if each not in before]
    path.write_text(source, encoding="utf-8")

    assert any(complaint in each for each in news), news


def test_types_and_unreached_functions_do_not_count_as_loading(tmp_path: Path) -> None:
    _append(tmp_path / "serving" / "app.py", "from pricing.errors import PricingError")
    _append(
        tmp_path / "pricing" / "errors.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas\ndef f():\n    import pandas",
    )

    assert broken_arrows(tmp_path) == []


def _append(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")
