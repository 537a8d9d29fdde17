"""Every command of the README, on a fresh clone of HEAD: they do what it says and answer what it shows."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.documents import blocks
from tests.journeys.person import on_a_fresh_clone

ELSEWHERE = "make demo"  # test_demos.py
# What a network that another processor trained may change, besides `decision_id`: relative, and absolute.
TOLERANCES = {
    "recommended_price": (0.0, 0.05),  # five price steps
    "price_range": (0.05, 0.0),
    "confidence": (0.1, 0.0),
    "expected_units": (0.15, 0.0),
    "expected_margin": (0.15, 0.0),
    "expected_gain": (0.3, 0.5),
    "worst_case": (0.5, 1.0),
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_every_command_does_what_the_readme_says(tmp_path: Path) -> None:
    person = on_a_fresh_clone(tmp_path / "clone")
    shown = 0
    with ExitStack() as until_the_end:
        for lines, answer in blocks("README.md"):
            printed = ""
            for command in lines:
                if command.endswith(" serve"):
                    until_the_end.enter_context(person.serving(command)).wait_for()
                elif not command.startswith(ELSEWHERE):
                    printed = person.runs(command.replace(":8080", f":{person.port}"))
            if answer is not None:
                shown += 1
                compare(json.loads(printed), answer)

    assert shown > 0
    experiments = {one.experiment_id: one.name for one in person.client.search_experiments()}
    runs = person.client.search_runs(list(experiments))
    assert {experiments[run.info.experiment_id] for run in runs} == {"pricing"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert not (person.folder / "mlruns").exists()


def compare(found: dict[str, Any], shown: dict[str, Any]) -> None:
    """The answer is the one shown, but for what a network that another processor trained may change."""
    assert found.keys() == shown.keys()
    for name, value in shown.items():
        if name in TOLERANCES:
            relative, absolute = TOLERANCES[name]
            assert found[name] == pytest.approx(value, rel=relative, abs=absolute), name
        elif name != "decision_id":
            assert found[name] == value, name
