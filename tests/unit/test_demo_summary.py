"""What a demo says first."""

from dataclasses import replace

from pipelines.demo import DemoResult, headline

SCORES = {"wape": 0.313, "wape_naive": 0.5, "wape_baseline": 0.335, "coverage_80": 0.82}
FOLDS = [{"baseline": "flat"}, {"baseline": "flat"}]
RESULT = DemoResult(
    model={"backtest": {**SCORES, "baseline": "mixed", "folds": FOLDS}, "model_version": "1"},
    answers=(),
    decided="12 prices",
    promotion=["| gate | | figure | needed |", "| bias | pass | 0.03 | ≤ 0.2 |", "| golden | pass | 1.5 | ≤ 50 |"],
    watched=["80 % intervals: held 86%", "outcome: none: no input drifted"],
    policy_table=(),
    period="week",
)
TABLE = [
    "policy                          profit  over static     (95 % interval)   share",
    "platform without a model        93,267        +1.6%      (-0.4%, +4.6%)    0.29",
    "platform                        96,053        +4.6%      (+2.1%, +8.0%)    0.85",
]


def test_what_a_manager_asks_is_said_in_a_line_each() -> None:
    assert list(headline(RESULT)) == [
        "Forecasts  off by 31.3% of the units sold, in 2 trials on later weeks; flat median by 33.5%. The 80 % range "
        "held 82% of the sales",
        "Gates      2 passed: version 1 sets prices",
        "Prices     12 prices",
        "Watching   nothing to do: no input drifted",
    ]


def test_where_profit_is_known_it_comes_first() -> None:
    first, *_ = headline(replace(RESULT, policy_table=TABLE))

    assert first == "Profit     +4.6% over holding list prices, 95 % interval (+2.1%, +8.0%); beside others below"
