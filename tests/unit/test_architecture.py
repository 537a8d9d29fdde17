"""Who may import whom, read from the sources: five programs around one library, and one door per heavy library."""

import ast
import subprocess
import sys
from collections.abc import Container, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("etl", "pipelines", "serving", "monitoring", "console")
PACKAGES = ("pricing", *PROGRAMS, "simulation")
INFRASTRUCTURE = "deploy"
EVERYTHING = (*PACKAGES, INFRASTRUCTURE, "tests", "benchmarks")
# Each may import itself and those before it.
INWARD = (
    "errors",
    "arrays",
    "fileio",
    "paths",
    "config_models",
    "config",
    "quoting",
    "objects",
    "data",
    "demand",
    "decision",
    "decision_log",
    "registry",
    "runtime",
)
# Tests that are of a benchmark's program or of what only benchmarks have, and may import it.
OF_BENCHMARKS = {
    "tests.unit.benchmarks.test_demand_tables",
    "tests.unit.benchmarks.test_forecast_benchmark",
    "tests.unit.benchmarks.test_judged_confidence",
    "tests.unit.benchmarks.test_learning",
    "tests.unit.benchmarks.test_truth",
}
# Heavy library → the modules that may import it; a name that ends in a dot stands for all below it.
DOORS = {
    "keras": ("pricing.demand.network",),
    "tensorflow": ("pricing.demand.network",),
    "lightgbm": ("pricing.demand.trees",),
    "mlflow": (
        "pricing.registry.mlflow_registry",
        "pricing.registry.pyfunc",
        "pricing.runtime.",
        "pipelines.",
        "monitoring.tracking",
        "deploy.mlflow_server",  # the latter runs in MLflow's image
    ),
    "evidently": ("monitoring.evidently_reports",),
    "optuna": ("pipelines.tune",),
    "shap": ("pipelines.reports.plots",),
    "flask": ("serving.", "console."),
    "granian": ("serving.__main__", "console.app"),
    "boto3": ("pricing.runtime.aws", "pricing.objects"),
    "httpx2": ("etl.http", "pricing.runtime.alerts", "pricing.runtime.mlflow_runs", "pipelines.loop"),
    "stamina": ("etl.http", "pricing.runtime.alerts"),
    "duckdb": ("etl.", "pricing.decision_log.read"),
    "adbc_driver_postgresql": ("etl.extract",),
    "jinja2": ("pipelines.reports.", "monitoring.report"),
    "aws_cdk": ("deploy.",),
    "cdk_nag": (),
}
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
OPTIONAL = {"anyio", "dotenv", "uvloop", "watchfiles"}  # which granian and Flask take where they are installed


class Import(NamedTuple):
    """One import statement: who imports what."""

    module: str
    target: str


def modules() -> dict[str, Path]:
    """Every module of ours, by its dotted name; a package is named without `__init__`."""
    found = {}
    for package in EVERYTHING:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str, source: str, known: Container[str]) -> Iterator[Import]:
    """The imports of one module's source; `known` are the modules of ours, which import each other by whole names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            wholes = [(f"{node.module}.{alias.name}", str(node.module)) for alias in node.names]
            yield from (Import(name, whole if whole in known else base) for whole, base in wholes)


def loaded_by(*names: str) -> set[str]:
    """The libraries and packages that importing some modules loads, beyond what Python itself does."""
    shown = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    code = f"import {', '.join(names)}; {shown}" if names else shown
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def complaints(each: Import) -> Iterator[str]:
    """What forbids an import, if anything does."""
    here, there, layer = _top(each.module), _top(each.target), _layer(each.target)
    kit = _within(each.target, "tests.kit")
    if there in PROGRAMS and here in (*PACKAGES, INFRASTRUCTURE) and here != there:
        yield f"{here} must not know {there}"
    if (here == INFRASTRUCTURE and there in PACKAGES) or (there == INFRASTRUCTURE and here in PACKAGES):
        yield f"{INFRASTRUCTURE} stands apart"
    if layer and _layer(each.module) and INWARD.index(layer) > INWARD.index(str(_layer(each.module))):
        yield f"{_layer(each.module)} lies inside {layer}"
    if there == "simulation" and here in ("pricing", "serving"):
        yield f"{here} must not know simulation"
    if here == "simulation" and there == "pricing" and layer not in ("data", "errors", "arrays"):
        yield "simulation may know pricing's data, errors and arrays only"
    if here in (*PACKAGES, INFRASTRUCTURE) and there in DOORS and not _may(each.module, DOORS[there]):
        yield f"only {', '.join(DOORS[there])} may"
    if here in PACKAGES and there in ("tests", "benchmarks"):
        yield f"what is shipped knows no {there}"
    if there == "tests" and not kit and (here == "benchmarks" or _within(each.module, "tests.kit")):
        yield "benchmarks and the kit may know of tests the kit alone"
    if here == "tests" and there == "benchmarks" and each.module not in OF_BENCHMARKS:
        yield "what both need belongs into tests/kit"


def _may(module: str, doors: tuple[str, ...]) -> bool:
    return any(module == door or (door.endswith(".") and f"{module}.".startswith(door)) for door in doors)


def _within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def _top(name: str) -> str:
    return name.partition(".")[0]


def _layer(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "pricing" and len(parts) > 1 and parts[1] in INWARD else None


def test_every_import_follows_the_arrows() -> None:
    known = modules()
    found = [one for name, path in known.items() for one in imports_of(name, path.read_text("utf-8"), known)]

    assert [f"{one.module} imports {one.target}: {words}" for one in found for words in complaints(one)] == []


@pytest.mark.parametrize(
    ("module", "target", "complaint"),
    [
        ("pipelines.train", "serving.app", "pipelines must not know serving"),
        ("deploy.app", "serving.settings", "deploy stands apart"),
        ("pricing.data.panel", "simulation.market", "pricing must not know simulation"),
        ("pricing.data.panel", "pricing.demand", "data lies inside demand"),
        ("pricing.decision.request", "keras", "only pricing.demand.network may"),
        ("pricing.config", "tests.kit.panels", "what is shipped knows no tests"),
        ("benchmarks.demand", "tests.kitchen", "the kit alone"),
        ("tests.unit.decision.test_pricer", "benchmarks.demand", "belongs into tests/kit"),
    ],
)
def test_a_broken_arrow_is_found(module: str, target: str, complaint: str) -> None:
    assert complaint in "; ".join(complaints(Import(module, target)))


def test_serving_stays_light_and_needs_nothing_outside_its_lock() -> None:
    lock = (ROOT / "requirements" / "serving.txt").read_text(encoding="utf-8")
    locked = {line.partition("==")[0].lower() for line in lock.splitlines() if "==" in line}
    loaded = loaded_by(*(name for name in modules() if name.startswith("serving."))) - loaded_by()
    libraries = loaded - {*sys.stdlib_module_names, *PACKAGES, *OPTIONAL}
    distributions = packages_distributions()

    assert loaded & SERVING_NEVER == set()
    assert {
        name
        for name in libraries & distributions.keys()
        if not {each.lower().replace("_", "-") for each in distributions[name]} & locked
    } == set()


def test_every_module_of_the_library_belongs_to_a_layer() -> None:
    assert [name for name in modules() if name.startswith("pricing.") and _layer(name) is None] == []
