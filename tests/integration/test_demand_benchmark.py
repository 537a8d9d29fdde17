"""The demand benchmark from the command line, on markets and with trainings as small as they can be."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import demand
from pipelines.market import PLATFORM, STATIC

TINY = "demand: {steps: 4, demand_steps: 2, price_steps: 2, units: 8, context: 60}\n"


@pytest.mark.slow
def test_both_families_are_measured_in_one_run_with_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)

    code = demand.main(
        [
            *("--settings", "default", "no_prices", "heavy_tail", "--seeds", "1", "--development", "true"),
            *("--products", "8", "--days", "150", "--ahead", "16", "--commit", "abc123"),
            *("--config", str(tmp_path / "tiny.yaml"), "--output", str(tmp_path)),
        ]
    )

    assert code == 0
    document = json.loads((tmp_path / "demand.json").read_text())
    assert document["commit"] == "abc123"
    assert document["plan"]["config"] == "tiny.yaml"
    assert {name: [one["seed"] for one in found] for name, found in document["results"].items()} == {
        "default": [0],
        "no_prices": [200],
        "heavy_tail": [200],
    }
    for (found,) in document["results"].values():
        assert {row["policy"] for row in found["scores"]} == {
            *(STATIC, "rules", "plain rule, our elasticities", "reference", PLATFORM, "true elasticities", "oracle")
        }
        assert all(row["refused"] == 0 for row in found["scores"])
        assert sum(part["units"] for part in found["grades"].values()) == pytest.approx(1)
        assert found["limits"]["decisions"] >= 16
        assert np.isfinite([row["profit"] for row in found["scores"]]).all()
    assert (tmp_path / "demand.md").read_text().startswith("# The demand model on markets with known truth")


def test_the_commit_is_the_one_given_before_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(demand.COMMIT, "from-environment")

    assert demand.commit("given") == "given"
    assert demand.commit(None) == "from-environment"


def test_a_grade_is_told_with_what_its_elasticities_are_worth() -> None:
    found = demand.by_grade(
        np.array([0, 2, 2]),
        error=np.array([1.0, -0.2, 0.4]),
        inside=np.array([False, True, True]),
        units=np.array([50.0, 25.0, 25.0]),
    )

    assert found["prior_only"] == {"products": 1, "units": 0.5, "mae": 1.0, "bias": 1.0, "inside_80": 0.0}
    assert found["own_history"]["mae"] == pytest.approx(0.3)
    assert found["own_history"]["bias"] == pytest.approx(0.1)
    assert set(found) == {"prior_only", "own_history"}


def test_a_model_without_grades_is_told_as_ungraded() -> None:
    found = demand.by_grade(np.array([-1]), error=np.ones(1), inside=np.ones(1, bool), units=np.ones(1))

    assert set(found) == {"ungraded"}
