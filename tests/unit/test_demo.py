"""What a demo says first, where a stage fails, and what it refuses."""

import socket
from pathlib import Path

import pandas as pd
import pytest

from pipelines.demo import SCENARIOS, StageError, _Demo, headline, main

SCORES = {"wape": 0.313, "wape_naive": 0.5, "wape_baseline": 0.335, "coverage_80": 0.82}
MODEL = {
    "backtest": {**SCORES, "baseline": "mixed", "folds": [{"baseline": "flat"}, {"baseline": "flat"}]},
    "model_version": "1",
}
PROMOTION = ["| gate | | figure | needed |", "| bias | pass | 0.03 | ≤ 0.2 |", "| golden | pass | 1.5 | ≤ 50 |"]
DECIDED = pd.DataFrame({"recommended_price": [2.0, 1.1, 0.8, 3.0], "current_price": [2.0, 1.0, 1.0, 3.0]})
DECIDED["source"] = ["model", "model", "rule", "category"]


def test_what_a_manager_asks_is_said_in_a_line_each() -> None:
    watched = ["80 % intervals: held 86%", "outcome: none: no input drifted"]

    forecasts, gates, prices, watching = headline(MODEL, PROMOTION, DECIDED, watched, period="week")

    assert all(figure in forecasts for figure in ("31.3%", "2 trials on later weeks", "flat median by 33.5%", "82%"))
    assert gates == "Gates      2 passed: version 1 sets prices"
    assert "4 prices: 50% differ from the price before, half of those by more than 15%; 1 by rule" in prices
    assert watching.endswith("no input drifted")


def test_a_failed_stage_shows_its_last_lines_and_its_log(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()

    with pytest.raises(StageError, match=r"exit code 2.*etl\.log, and ends:(\n.*)*--no_such_option"):
        _Demo(SCENARIOS["grocery"], tmp_path, None)._job("etl", no_such_option=1)

    assert "--no_such_option" in (tmp_path / "logs" / "etl.log").read_text()


def test_a_port_that_is_taken_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("PORT", str(taken.getsockname()[1]))

        assert main([]) == 2

    assert "is taken" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
