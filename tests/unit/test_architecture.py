"""Who may import whom, read from the sources: five programs around one library, and one door per heavy library."""

import ast
import sys
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
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
    "tests.unit.test_judged_confidence",
}
# Heavy library → the modules that may import it; a name that ends in a dot stands for all below it.
DOORS = {
    "keras": ("pricing.demand.network",),
    "tensorflow": ("pricing.demand.network",),
    "lightgbm": ("pricing.demand.ensemble",),
    "mlflow": (
        *("pricing.registry.mlflow_registry", "pricing.registry.pyfunc", "pricing.runtime.", "pipelines."),
        *("monitoring.tracking", "deploy.mlflow_server"),  # the latter runs in MLflow's image
    ),
    "evidently": ("monitoring.evidently_reports",),
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
SERVING_NEVER = {
    *("keras", "tensorflow", "pandas", "scipy", "sklearn", "shap", "matplotlib", "optuna", "evidently", "lightgbm"),
    *("pyarrow", "mlflow", "sqlalchemy", "duckdb"),
}


@dataclass(frozen=True)
class Import:
    """One import statement: who, what, and whether it runs as soon as the importing module is imported."""

    module: str
    target: str
    at_import: bool = True


def modules() -> dict[str, Path]:
    """Every module of ours, by its dotted name; a package is named without `__init__`."""
    found = {}
    for package in EVERYTHING:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str, source: str, known: Container[str], *, package: bool = False) -> Iterator[Import]:
    """The imports of one module's source; `known` are the modules of ours."""
    inside = name if package else name.rpartition(".")[0]
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(source), True)]
    while pending:
        node, at_import = pending.pop()
        if isinstance(node, ast.Import):
            yield from (Import(name, alias.name, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*inside.split(".")[: inside.count(".") + 2 - node.level], *filter(None, [base])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield Import(name, whole if whole in known else base, at_import)
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        later |= isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        pending += ((child, at_import and not later) for child in ast.iter_child_nodes(node))


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


def reached(start: str, found: Iterable[Import]) -> Iterator[list[str]]:
    """The chains of imports that importing `start` sets off, one chain for each module or library reached."""
    targets: dict[str, set[str]] = {}
    for each in found:
        if each.at_import:
            targets.setdefault(each.module, set()).add(each.target)
    seen, pending = {start}, [[start]]
    while pending:
        path = pending.pop()
        yield path
        for target in sorted(targets.get(path[-1], set())):
            parts = target.split(".")
            for step in (".".join(parts[:length]) for length in range(1, len(parts) + 1)):  # packages above it, too
                if step not in seen:
                    seen.add(step)
                    pending.append([*path, step])


def loading(start: str, libraries: Container[str], found: Iterable[Import]) -> list[str]:
    """The chains by which importing the modules below `start` loads one of the libraries."""
    starts = sorted({each.module for each in found if each.module.startswith(start)})
    chains = [path for one in starts for path in reached(one, found)]
    return [" → ".join(path) for path in chains if _top(path[-1]) in libraries]


def _may(module: str, doors: tuple[str, ...]) -> bool:
    return any(module == door or (door.endswith(".") and f"{module}.".startswith(door)) for door in doors)


def _within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def _top(name: str) -> str:
    return name.partition(".")[0]


def _layer(name: str) -> str | None:
    parts = name.split(".")
    return parts[1] if parts[0] == "pricing" and len(parts) > 1 and parts[1] in INWARD else None


@pytest.fixture(scope="module")
def found() -> list[Import]:
    known = modules()
    sources = ((name, path, path.read_text(encoding="utf-8")) for name, path in known.items())
    return [
        one for name, path, text in sources for one in imports_of(name, text, known, package=path.stem == "__init__")
    ]


def test_every_import_follows_the_arrows(found: list[Import]) -> None:
    assert [f"{one.module} imports {one.target}: {words}" for one in found for words in complaints(one)] == []


@pytest.mark.parametrize(
    ("module", "target", "complaint"),
    [
        ("pipelines.train", "serving.app", "pipelines must not know serving"),
        ("deploy.app", "serving.settings", "deploy stands apart"),
        ("pricing.paths", "deploy.environment", "deploy stands apart"),
        ("pricing.data.panel", "simulation.market", "pricing must not know simulation"),
        ("simulation.foreign", "pricing.decision", "simulation may know pricing's data"),
        ("pricing.errors", "pricing.config", "errors lies inside config"),
        ("pricing.data.panel", "pricing.demand", "data lies inside demand"),
        ("pricing.decision.request", "keras", "only pricing.demand.network may"),
        ("monitoring.evaluate", "evidently", "only monitoring.evidently_reports may"),
        ("pricing.registry.version", "mlflow.tracking", "only pricing.registry.mlflow_registry"),
        ("pricing.config", "tests.kit.panels", "what is shipped knows no tests"),
        ("benchmarks.demand", "tests.kitchen", "the kit alone"),
        ("tests.kit.panels", "tests.unit.test_pricer", "the kit alone"),
        ("tests.unit.test_pricer", "benchmarks.demand", "belongs into tests/kit"),
    ],
)
def test_a_broken_arrow_is_found(module: str, target: str, complaint: str) -> None:
    assert complaint in "; ".join(complaints(Import(module, target)))


def test_serving_stays_light_and_no_unit_test_loads_tensorflow(found: list[Import]) -> None:
    assert loading("serving.", SERVING_NEVER, found) == []
    assert loading("tests.unit.", ("keras", "tensorflow"), found) == []


def test_a_library_that_is_loaded_on_a_detour_is_found_and_types_and_functions_do_not_count() -> None:
    text = "from ..demand import training\nif TYPE_CHECKING:\n    import pandas\ndef f():\n    import scipy"
    detour = [
        *imports_of("pricing.data.load", text, {"pricing.demand.training"}),
        Import("pricing.demand.training", "keras"),
    ]
    assert {one.target for one in detour if not one.at_import} == {"pandas", "scipy"}
    assert loading("pricing.data.", SERVING_NEVER, detour) == ["pricing.data.load → pricing.demand.training → keras"]


def test_every_module_of_the_library_belongs_to_a_layer() -> None:
    assert [name for name in modules() if name.startswith("pricing.") and _layer(name) is None] == []


def test_serving_needs_nothing_outside_its_lock(found: list[Import]) -> None:
    lock = (ROOT / "requirements" / "serving.txt").read_text(encoding="utf-8")
    locked = {line.partition("==")[0].lower() for line in lock.splitlines() if "==" in line}
    distributions, starts = packages_distributions(), {one.module for one in found if _top(one.module) == "serving"}
    libraries = {_top(path[-1]) for start in starts for path in reached(start, found)}
    libraries -= {*sys.stdlib_module_names, *PACKAGES}
    dashed = {name: {each.lower().replace("_", "-") for each in distributions.get(name, [])} for name in libraries}
    assert {name for name in libraries if not dashed[name] & locked} == set()
