"""What is built and installed is what the checkout has: the packages, the settings, the requirements, the version."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, SETUPTOOLS = PYPROJECT["project"], PYPROJECT["tool"]["setuptools"]
PACKAGES = ("pricing", "etl", "pipelines", "serving", "monitoring", "console", "simulation")
# Requirement set → what of pyproject.toml is the same packages.
BASE = "base"
SETS = {"docs": (BASE, "shared"), "training": ("training",), "scale": ("scale",), "demo": ("demo",)}


def ranges(groups: tuple[str, ...]) -> dict[str, SpecifierSet]:
    declared = {BASE: PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    lines = [Requirement(line) for group in groups for line in declared[group]]
    return {canonicalize_name(line.name): line.specifier for line in lines if line.name != PROJECT["name"]}


def locked(name: str) -> dict[str, set[str]]:
    """The versions of each package in a lock file: more than one where they differ by the version of Python."""
    found: dict[str, set[str]] = {}
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    for package, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE):
        found.setdefault(canonicalize_name(package), set()).add(version)
    return found


@pytest.mark.parametrize("name", SETS)
def test_every_extra_takes_the_locked_versions_and_has_a_lower_bound(name: str) -> None:
    versions = locked(name)

    for package, specifier in ranges(SETS[name]).items():
        assert any(part.operator == ">=" for part in specifier), package
        assert all(version in specifier for version in versions[package]), package


def test_every_library_that_is_imported_is_declared() -> None:
    declared = ranges((BASE, "shared", "training", "scale", "demo")).keys()
    names = packages_distributions()
    imported = {library for package in PACKAGES for library in libraries(ROOT / package)}

    brought = {"pydantic-core", "botocore", "werkzeug", "markupsafe"}  # by pydantic, boto3, Flask: their types
    missing = {
        library
        for library in imported
        if not {canonicalize_name(name) for name in names.get(library, [library])} & {*declared, *brought}
    }

    assert missing == set()


def libraries(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            yield from {name.partition(".")[0] for name in names} - {*sys.stdlib_module_names, *PACKAGES, "_typeshed"}


def test_every_package_is_built() -> None:
    folders = [path.parent.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")]

    assert set(SETUPTOOLS["packages"]) == {".".join(folder.parts) for folder in folders} | {"pricing.defaults"}
