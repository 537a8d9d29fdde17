import re
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from pricing.config import DEFAULT_PATH, SCHEMA_PATH, schema_for_editors
from pricing.runtime.command import JOBS
from pricing.runtime.config_schema import schema_text

SETTINGS = sorted(DEFAULT_PATH.parent.glob("*.yaml"))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return schema_for_editors()


def test_the_file_that_editors_read_is_what_the_command_prints() -> None:
    assert SCHEMA_PATH.read_text(encoding="utf-8") == schema_text(), (
        "python -m pricing.runtime.config_schema > config/schema.json"
    )


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_every_configuration_of_the_project_names_the_schema_and_keeps_it(path: Any, schema: dict[str, Any]) -> None:
    text = path.read_text(encoding="utf-8")

    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    assert [error.message for error in Draft202012Validator(schema).iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_comments_call_a_job_by_its_command(path: Any) -> None:
    jobs = {job.module: f"pricing {name}" for name, job in JOBS.items()}

    named = re.findall(r"python -m ([\w.]+)", path.read_text(encoding="utf-8"))

    assert {module: jobs[module] for module in named if module in jobs} == {}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("decision: {guardrails: {max_move: 0.05}}", True),
        ("decision: {guardrails: {max_move: 10}}", False),
        ("decision: {guardrails: {max_moves: 0.05}}", False),
        ("decision: {strategies: {margin: {kept_value: 0.5}}}", True),
        ("decision: {strategies: {spring: {kind: margn}}}", False),
        ("monitoring: {alarms: {sales_late: {above: 10}}}", True),
        ("tuning: {space: {steps: {high: 500}, context: {choices: [60, 90]}, units: null}}", True),
        ("demand: {folds: three}", False),
    ],
)
def test_editors_mark_what_the_program_refuses_and_nothing_else(text: str, holds: bool, schema: dict[str, Any]) -> None:
    assert Draft202012Validator(schema).is_valid(yaml.safe_load(text)) == holds


def properties(schema: dict[str, Any], node: dict[str, Any], at: str = "") -> dict[str, dict[str, Any]]:
    """Every key of the sections, by its path."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    found: dict[str, dict[str, Any]] = {}
    for name, part in node.get("properties", {}).items():
        found |= {f"{at}{name}": part} | (properties(schema, part, f"{at}{name}.") if "$ref" in part else {})
    return found


def test_every_key_says_what_it_means_and_what_it_is_by_default(schema: dict[str, Any]) -> None:
    found = properties(schema, schema)
    sections = {at for at in found if any(other.startswith(f"{at}.") for other in found)}
    keys = found.keys() - sections

    assert len(keys) > 130
    assert sorted(at for at in keys if not found[at].get("description")) == []
    assert sorted(at for at in keys if "default" not in found[at]) == []
    assert "fraction of the current price" in found["decision.guardrails.max_move"]["description"]
    assert found["decision.guardrails.max_move"]["default"] == 0.1
