"""What a demo says first, where a stage fails, and what it refuses."""

import socket
from pathlib import Path

import pytest

from pipelines.demo import SCENARIOS, StageError, _Demo, headline, main

SCORES = {"wape": 0.313, "wape_naive": 0.5, "wape_baseline": 0.335, "coverage_80": 0.82}
MODEL = {
    "backtest": {**SCORES, "baseline": "mixed", "folds": [{"baseline": "flat"}, {"baseline": "flat"}]},
    "model_version": "1",
}
PROMOTION = ["| gate | | figure | needed |", "| bias | pass | 0.03 | ≤ 0.2 |", "| golden | pass | 1.5 | ≤ 50 |"]
MOVES = [(1.0, False), (1.1, False), (0.8, True), (1.0, False)]
WATCHED = ["80 % intervals: held 86%", "outcome: none: no input drifted"]
PLATFORM = {"policy": "platform", "gain": 0.046, "gain_interval": [0.021, 0.08]}


def test_what_a_manager_asks_is_said_in_a_line_each_and_profit_first() -> None:
    profit, forecasts, gates, prices, watching = headline(MODEL, PROMOTION, MOVES, WATCHED, PLATFORM, period="week")

    assert profit.startswith("Profit     +4.6% over holding list prices, 95 % interval (+2.1%, +8.0%)")
    assert forecasts.startswith(
        "Forecasts  off by 31.3% of the units sold, in 2 trials on later weeks; flat median by 33.5%. The 80 % range "
        "held 82% of the sales"
    )
    assert gates == "Gates      2 passed: version 1 sets prices"
    assert prices.startswith(
        "Prices     4 prices: 50% differ from the price before, half of those by more than 15%; 1 by rule."
    )
    assert watching == "Watching   nothing to do: no input drifted"


def test_where_profit_is_not_known_nothing_is_said_of_it() -> None:
    assert not any("Profit" in line for line in headline(MODEL, PROMOTION, MOVES, WATCHED, None, period="week"))


def test_a_failed_stage_shows_its_last_lines_and_its_log(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()

    with pytest.raises(StageError, match=r"exit code 3.*etl\.log, and ends:\n   \| no such column"):
        _Demo(SCENARIOS["grocery"], tmp_path, None)._command("etl", ["sh", "-c", "echo no such column; exit 3"])

    assert (tmp_path / "logs" / "etl.log").read_text() == "no such column\n"


def test_a_demo_that_was_never_made_and_a_port_that_is_taken_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRICING_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("PORT", str(taken.getsockname()[1]))

        codes = [main(["--serve"]), main([])]

    assert codes == [2, 2]
    said = capsys.readouterr().err
    assert "there is no demo in" in said
    assert "is taken" in said
    assert not (tmp_path / "demo").exists()
