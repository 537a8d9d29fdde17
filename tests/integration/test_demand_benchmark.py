"""The demand benchmark from the command line, on markets and with trainings as small as they can be."""

from pathlib import Path

import pytest

from benchmarks import demand

TINY = "demand: {steps: 4, demand_steps: 2, price_steps: 2, units: 8, context: 60}\n"


@pytest.mark.slow
@pytest.mark.weekly
def test_both_families_are_measured_in_one_run_with_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)

    code = demand.main(
        [
            *("--settings", "default", "no_prices", "heavy_tail", "--seeds", "1", "--development"),
            *("--products", "8", "--days", "150", "--ahead", "16", "--config", str(tmp_path / "tiny.yaml")),
        ]
    )

    assert code == 0
    told = capsys.readouterr().out
    assert [told.count(f"\n| {row} | ") for row in ("default", "no_prices", "heavy_tail", "**foreign**")] == [2] * 4
    for policy in ("reference", "plain rule, our elasticities", "platform", "true elasticities"):
        assert told.count(f"\n| {policy} | ") == 1
    assert told.count("Refused by the market: 0;") == 1
