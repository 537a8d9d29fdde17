"""What a demo says first, where a stage fails, what it refuses, and the money that it ends with."""

import re
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.loop import SCENARIOS, StageError, _Demo, examples, main, money, weeks_counted
from pipelines.steps.decisions import price_lines
from pricing.decision.reasons import REASONS
from tests.kit.versions import loaded_version


def test_a_failed_stage_shows_its_last_lines_and_its_log(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()

    with pytest.raises(StageError, match=r"exit code 2.*etl\.log, and ends:(\n.*)*--no_such_option"):
        _Demo(SCENARIOS["grocery"], tmp_path)._job("etl", no_such_option=1)

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


PRICES = pd.DataFrame(
    {
        "product_id": ["up", "best", "down", "ending", "held", "popular", "new"],
        "current_price": [2.0, 2.0, 2.0, 1.67, 1.0, 1.0, np.nan],
        "recommended_price": [2.2, 2.1, 1.8, 1.65, 1.0, 1.0, 3.0],
        "expected_gain": [5.0, 9.0, -1.0, 0.0, 0.0, 0.0, np.nan],
        "gain_low": [3.0, 5.0, -2.0, 0.0, 0.0, 0.0, np.nan],
        "gain_high": [7.0, 13.0, 0.0, 0.0, 0.0, 0.0, np.nan],
        "expected_units": [1.0, 1.0, 1.0, 1.0, 2.0, 8.0, 9.0],
        "source": ["model", "model", "rule", "model", "model", "model", "rule"],
        "reasons": ["", "", "", "", "held cost_assumed", "held", "no_model"],
        "binds": ["max_move", np.nan, np.nan, np.nan, np.nan, np.nan, np.nan],
        "gave_way": [np.nan] * 7,
    }
)


def test_the_money_counts_what_was_done_and_a_weeks_gain_with_the_ends_that_all_share() -> None:
    prices, gain = money(PRICES, weeks=np.array([1.0, 2.0, 0.5, 1.0, 1.0, 1.0, 1.0]))

    assert [int(number) for number in re.findall(r"\d+", prices)] == [7, 2, 2, 1, 2, 2]
    # 5 + 9 / 2 − 1 / 0.5, and its ends in the same way
    assert re.findall(r"[+-]\d+", gain) == ["+8", "+2", "+14"]


def test_a_gain_is_a_weeks_by_the_days_until_the_next_delivery() -> None:
    facts = loaded_version().facts
    deliveries = np.zeros_like(facts.deliveries)
    deliveries[2, 0], deliveries[2, 1:] = (1, 2, 5, 9), 40
    prices = pd.DataFrame({"product_id": facts.product_ids[[2, 0]]})

    known = replace(facts, deliveries=deliveries)

    assert weeks_counted(prices, known, review_days=21).tolist() == [2 / 7, 3.0]
    assert weeks_counted(prices, replace(known, period="week"), review_days=21).tolist() == [2.0, 3.0]


def test_a_rise_a_cut_and_a_price_held_are_examples_where_there_are_such() -> None:
    assert examples(PRICES)["product_id"].tolist() == ["best", "ending", "popular"]
    assert examples(PRICES[:2])["product_id"].tolist() == ["best"]


def test_a_table_of_prices_has_a_line_a_product_with_both_prices_and_why() -> None:
    _, up, *_, held, popular, new = price_lines(PRICES)

    assert up.split()[:3] == ["up", "2.00", "2.20"]
    assert new.split()[:3] == ["new", "–", "3.00"]
    assert [line.count("gain") for line in (up, held, popular, new)] == [1, 1, 1, 0]
    said = {code: REASONS[code] for code in ("held", "cost_assumed", "no_model")}
    assert [[code for code in said if said[code] in line] for line in (up, held, popular, new)] == [
        [], ["held", "cost_assumed"], ["held"], ["no_model"],
    ]  # fmt: skip
