"""`pricing price-test` plans, shows and stops price tests, and refuses what cannot be tested."""

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
from pipelines.price_test import main
from pricing.decision.price_tests import Plan, plan_file, read_plan, write_plan

from pipelines import train
from tests.integration.test_promote import Shop, whole
from tests.integration.test_promote import shop as champion
from tests.kit.decision import config
from tests.unit.test_price_test_results import MONDAY, logged, panel_of

__all__ = ["champion", "whole"]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An empty registry; making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('registry') / 'mlflow.db'}"


@pytest.fixture
def shop(tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight products of steady prices and noisy sales for a hundred days, as a CSV; everything local lies beside it."""
    rng = np.random.default_rng(3)
    lines = ["date,product_id,units_sold,price,unit_cost"]
    for day in range(100):
        date = dt.date(2024, 11, 23) + dt.timedelta(days=day)
        lines += [f"{date},SKU{number},{rng.poisson(9) + 1},10.0,{6.0 if number else 9.99}" for number in range(8)]
    (tmp_path / "sales.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("PRICING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    return tmp_path


def run(shop: Path, *words: str) -> int:
    return main(["--sales", str(shop / "sales.csv"), "--today", "2025-03-02", *words])


def test_a_test_is_planned_shown_and_stopped(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(shop, "--name", "spring", "--products", "SKU1,SKU2,SKU0") == 0
    said = capsys.readouterr().out
    assert "2 products, 2025-03-03 to 2025-04-27" in said
    assert "left out: 1" in said  # no room above its cost
    assert "expected cost: 0.16% of these products' margin" in said  # ½ · 2 · 1 · ⅔ log(1.05)²
    assert "± " in said
    plan = read_plan(plan_file(shop / "home"))
    assert plan.find("spring").prices == {"SKU1": 10.0, "SKU2": 10.0}

    assert main(["--show"]) == 0
    assert "spring: 2 products" in capsys.readouterr().out
    assert main(["--stop", "--name", "spring", "--today", "2025-03-10"]) == 0
    assert read_plan(plan_file(shop / "home")).draw("SKU1", dt.date(2025, 3, 10)) is None


def test_a_test_that_is_stopped_before_it_begins_is_shown_as_cancelled(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(shop, "--name", "spring", "--products", "SKU1") == 0
    assert main(["--stop", "--name", "spring", "--today", "2025-03-02"]) == 0
    assert "price test spring is cancelled" in capsys.readouterr().out

    assert main(["--show", "--today", "2025-03-20"]) == 0

    shown = "spring: 1 products, ± 5.0%, cancelled, no periods (it was to start on 2025-03-03)\n"
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--products", "SKU1", "--size", "0.06"], "at most 0.05"),
        (["--products", "SKUU1"], "the nearest is 'SKU1'"),
        (["--products", "SKU0"], "nothing to test"),
        (["--products", "SKU1", "--start", "2025-03-05"], "expected a Monday"),
        (["--products", "SKU1", "--start", "2025-02-24"], "has passed"),
        (["--products", "SKU1", "--share", "0.5"], "one of --products, --share and --grade"),
        (["--grade", "unsure"], "prior_only"),
        (["--share", "1.5"], "at most 1"),
        (["--products", "SKU3"], "held out"),
        (["--products", "SKU4"], "are in other from"),
        (["--report"], "no folder of decision logs"),
        (["--stop"], "there is no price test 'spring'; there are: other"),
    ],
)
def test_the_command_refuses_what_cannot_be_tested(
    shop: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    held = shop / "home" / "monitoring" / "holdout.json"
    held.parent.mkdir(parents=True)
    held.write_text('{"held": ["SKU3"], "priced": []}')
    assert run(shop, "--name", "other", "--products", "SKU4") == 0

    assert run(shop, "--name", "spring", *words) == 2

    assert expected in capsys.readouterr().err
    assert [test.name for test in read_plan(plan_file(shop / "home")).tests] == ["other"]


@pytest.mark.parametrize(("elsewhere", "used"), [(False, 5), (True, 21)])
def test_a_training_uses_draws_up_to_the_end_of_their_test(
    shop: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool, used: int
) -> None:
    """A shop that asked once; of another shop's log no plan here says that its test was stopped."""
    said: list[str] = []
    monkeypatch.setattr(train.mlflow, "log_metrics", lambda figures: said.append(str(figures)))
    folder = shop / "theirs" if elsewhere else shop / "home" / "decisions"
    test, records = logged(folder, days=1)
    write_plan(plan_file(shop / "home"), Plan((test,)).without("spring", after=MONDAY + dt.timedelta(days=5)))
    price = np.full((1, 30), records[0]["decision"]["recommended_price"])
    panel = panel_of(np.array(["apple"]), np.datetime64(MONDAY) + np.arange(30), units=np.ones((1, 30)), price=price)

    tested = train._tested(panel, folder if elsewhere else None, model="pricing", say=said.append)

    assert np.isfinite(tested[0]).sum() == used
    assert said[-1] == f"price tests: {used} product-periods used, 0 left out whose price was not charged"


def asked(champion: Shop, name: str, *, guardrails: str) -> int:
    """Plans a test of a product with the guardrails of a file."""
    path = champion.folder / "mine.yaml"
    path.write_text(f"decision: {{guardrails: {{{guardrails}}}}}\n")
    product = str(champion.whole.product_ids[0])
    where = ["--sales", champion.sales(150), "--config", str(path), "--today", "2025-03-02"]
    return main([*where, "--name", name, "--products", product])


@pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # MLflow's own classes
def test_a_test_is_planned_with_what_the_champion_serves_by(champion: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_file(champion.folder / "home")
    assert asked(champion, "before", guardrails="min_days: 14") == 2
    assert "min_days is 14 in" in capsys.readouterr().err

    champion.add(alias="champion", config=config(guardrails={"max_move": 0.01}))
    assert asked(champion, "close", guardrails="max_move: 0.1") == 2
    assert "no room inside the guardrails" in capsys.readouterr().err
    champion.add(alias="champion", config=config(guardrails={"max_move": 0.1}))
    assert asked(champion, "wide", guardrails="max_move: 0.01, min_days: 14") == 0
    assert "as champion 2 allows" in capsys.readouterr().out
    champion.add(alias="champion", config=config(guardrails={"min_days": 14}))
    assert asked(champion, "late", guardrails="min_days: 0") == 2

    assert "min_days is 14 in champion 3" in capsys.readouterr().err
    assert [test.name for test in read_plan(plan).tests] == ["wide"]


def test_the_help_says_whose_configuration_counts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])

    assert "the configuration packed in the champion's version" in " ".join(capsys.readouterr().out.split())
