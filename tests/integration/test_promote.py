import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from pipelines import history, promote, publish, refresh, rollback
from pipelines.steps.change import report
from pricing.config import load_config
from pricing.decision.experiments import Arm, Experiment
from pricing.decision.request import PriceRequest
from pricing.decision.switches import Control, Switches
from pricing.errors import EXIT_NOT_PUBLISHED, EXIT_REFUSED, PricingError, UnknownProductError
from pricing.objects import FolderStore
from pricing.registry.gates import Verdict
from pricing.registry.mlflow_registry import Registry
from pricing.registry.published_store import Pointer, control_key, parse_pointer, pointer_key
from tests.kit.control import freeze, put_control
from tests.kit.mlflow_jobs import ROOT, cut_off_before
from tests.kit.promotions import asked
from tests.kit.registered_shop import Shop
from tests.kit.versions import make_demand

NOW = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
FORCE = ["--force", "true", "--reason", "whatever the gates find"]


def test_the_first_promotion_needs_only_the_baselines_and_a_check_changes_nothing(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.promote()
    assert "nothing to do" in capsys.readouterr().out
    number, worse = shop.add(), shop.add(seed=2, alias=None, wape=0.6)
    checks = [promote.main(["--version", one, "--check", "true"]) for one in (number, worse)]
    before = shop.aliases, shop.entries()

    code = promote.main([])

    assert (checks, before, code) == ([0, EXIT_REFUSED], ({"challenger": number}, []), 0)
    assert shop.aliases == {"challenger": number, "champion": number}
    (entry,) = shop.entries()
    assert (entry.who, entry.to_version, entry.from_version, entry.forced) == ("ann", number, None, False)
    assert {gate["name"] for gate in entry.gates} >= {"beats_naive", "coverage_80", "elasticity_sane", "golden"}
    shop.promote()
    assert len(shop.entries()) == 1


@pytest.mark.parametrize("beyond", ["null", "0.05"])
def test_the_first_promotion_alone_tells_that_no_person_is_asked_where_none_is(
    shop: Shop, capsys: pytest.CaptureFixture[str], beyond: str
) -> None:
    (shop.folder / "mine.yaml").write_text(f"decision: {{approve_beyond: {beyond}}}")
    told = []

    for seed in (1, 2):
        shop.add(seed=seed)
        assert promote.main(["--config", "mine.yaml"]) == 0
        told.append(promote.UNATTENDED in capsys.readouterr().out)

    assert told == [beyond == "null", False]
    assert "decision.approve_beyond" in promote.UNATTENDED


def test_without_a_previous_alias_a_rollback_takes_the_champion_before_and_without_one_is_refused(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    first = shop.crown()
    assert rollback.main([]) == 2
    assert "--version" in capsys.readouterr().err
    refresh.main(["--sales", shop.sales(160)])
    promote.main([])
    refreshed = shop.champion
    assert "previous" not in shop.aliases

    assert rollback.main([]) == 0

    assert (shop.champion, refreshed != first) == (first, True)
    assert rollback.main([]) == 2, "the version that was left is no way back"
    assert shop.champion == first


def test_a_version_that_holds_only_is_promoted_and_it_and_its_refresh_say_so(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.add(holds_only=True, elasticity={"share_sane": 0.0})

    shop.promote()

    assert "the version is holds_only" in capsys.readouterr().out
    assert "holds_only" in shop.last.why
    shop.add(seed=2)
    shop.promote()
    assert not shop.fetch("champion").holds_only
    assert rollback.main([]) == 0
    assert "holds_only" in shop.last.why
    champion = shop.fetch("champion")
    assert champion.holds_only
    champion.verify()


def test_a_refused_challenger_leaves_the_champion_unless_it_is_forced_with_a_reason(shop: Shop) -> None:
    first = shop.crown()
    worse = shop.add(seed=2, wape=0.45)

    code = promote.main([])

    assert code == EXIT_REFUSED == 3
    assert shop.champion == first
    assert (shop.last.outcome, shop.missed) == ("refused", ["against_champion"])
    run = MlflowClient().get_run(shop.last.run_id or "")
    assert (run.data.tags["verdict"], run.data.tags["refused_by"]) == ("refused", "against_champion")
    report = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/promotion.md")
    assert "| against_champion | **FAIL** | 1.125 |" in report
    assert promote.main(["--force", "true"]) == 2
    assert promote.main(["--force", "true", "--reason", "the old one prices tools too low"]) == 0
    assert shop.champion == worse
    assert (shop.last.forced, shop.last.why) == (True, "the old one prices tools too low")


def test_after_a_promotion_killed_between_its_aliases_rollback_knows_where_to_go_and_history_what_was(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    first = shop.add()
    promote.main(["--reason", "the first"])
    second = shop.crown(seed=2)
    third = shop.add(seed=3)
    environment = {**os.environ, **cut_off_before("champion", folder=shop.folder / "cut")}
    command = [sys.executable, "-m", "pricing.runtime.command", "promote"]

    killed = subprocess.run(command, cwd=ROOT, env=environment, start_new_session=True, check=False)

    assert killed.returncode == -signal.SIGKILL
    assert shop.aliases == {"champion": second, "previous": second, "challenger": third}
    assert [entry.to_version for entry in shop.entries()] == [first, second], "the champion serves on, and no other"
    assert rollback.main(["--reason", "complaints"]) == 0
    assert (shop.last.action, shop.last.why) == ("rollback", "complaints")
    assert shop.aliases == {"champion": first, "previous": second, "challenger": third}
    capsys.readouterr()
    assert history.main([]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line[:1].isdigit()]
    assert [row[1] for row in rows] == [first, second, first]
    assert [row[3] for row in rows] == [*(row[2] for row in rows[1:]), "now"]
    shop.promote()
    assert shop.aliases == {"champion": third, "previous": first, "challenger": third}


def test_a_champion_scored_on_other_sales_is_refitted_on_the_challengers(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.crown()
    config = load_config()
    other = shop.add(
        alias=None,
        config=config.model_copy(update={"demand": config.demand.model_copy(update={"seed": 99})}),
        data={"fingerprint": "f2", "source": "sales.csv", "last_date": "2030-01-01"},
        demand=make_demand(shop.panel(), seed=5),
    )

    assert promote.main(["--version", other]) == 2

    assert "--sales 'sales.csv'" in capsys.readouterr().err
    assert promote.main(["--version", other, "--sales", shop.sales(150)]) == 2, "other sales than those"
    assert promote.main(["--version", other, "--force", "true", "--reason", "sales are gone"]) == 0
    assert shop.missed == ["against_champion"]


def test_a_champion_with_the_same_settings_is_not_refitted(shop: Shop) -> None:
    shop.crown()
    number = shop.add(seed=2, data={"fingerprint": "f2"}, wape=0.45)

    shop.promote()

    assert shop.champion == number
    assert against_champion(shop) is None


def against_champion(shop: Shop) -> float | None:
    (gate,) = [gate for gate in shop.last.gates if gate["name"] == "against_champion"]
    return gate["figure"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("champion", "days", "passes"),
    [("1", 1, True), ("7", 1, False), ("1", 60, False)],
)
def test_a_champion_in_decay_is_held_against_its_error_in_production(
    shop: Shop, champion: str, days: int, passes: bool
) -> None:
    shop.crown()
    client = MlflowClient()
    began = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
    tags = {"job": "monitor", "champion": champion}
    run = client.create_run("0", start_time=int(began.timestamp() * 1000), tags=tags).info.run_id
    client.log_param(run, "registry.model_name", "pricing")
    client.log_metric(run, "wape_to_backtest", 1.4)
    volumes = {name: {"wape": 0.45, "wape_baseline": 0.5} for name in ("low", "mid", "high")}
    shop.add(seed=2, wape=0.45, by_volume=volumes)

    assert promote.main([]) == (0 if passes else EXIT_REFUSED)

    assert against_champion(shop) == pytest.approx(0.45 / 0.40 / (1.4 if passes else 1.0))


def test_a_record_that_does_not_answer_and_a_damaged_version_change_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = shop.add()
    with monkeypatch.context() as away:
        away.setenv("PRICING_DATABASE_URL", "postgresql://me:secret@127.0.0.1:9/record")

        assert promote.main([]) == 2

    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "PRICING_DATABASE_URL" in error
    assert "secret" not in error
    (array,) = shop.folder.glob("mlruns/*/models/*/artifacts/artifacts/version/products/price.npy")
    array.write_bytes(array.read_bytes()[:-1] + b"\x7f")
    assert promote.main(["--force", "true", "--reason", "hurry"]) == 2
    assert "products/price.npy" in capsys.readouterr().err
    assert shop.aliases == {"challenger": number}


def test_a_refresh_is_the_same_weights_with_newer_states_and_passes_on_parity_alone(shop: Shop) -> None:
    first = shop.crown(wape=0.49)

    shop.refresh(160)
    shop.promote()

    before, champion = shop.registry.find(first), shop.registry.find("champion")
    assert champion.number != first
    assert (champion.weights, champion.tags["backtest"]) == (before.weights, before.tags["backtest"])
    assert champion.tags["kind"] == "refresh"
    assert champion.tags["state_date"] == str(shop.panel(160).dates[-1])
    named = ["identified", "fresh", "parity", "golden", "products", "anchors", "price_moves"]
    assert [gate["name"] for gate in shop.last.gates] == named
    assert "previous" not in shop.aliases


def test_refreshing_with_the_new_rows_alone_equals_refreshing_with_everything(shop: Shop) -> None:
    shop.add(alias="champion")

    refresh.main(["--sales", shop.sales(160)])
    everything = shop.fetch("challenger")
    refresh.main(["--sales", shop.sales(160, first=150)])
    rows = shop.fetch("challenger")

    assert everything.meta["checks"]["parity_from_scratch"]
    assert not rows.meta["checks"]["parity_from_scratch"]
    np.testing.assert_allclose(rows.learner.encoded.state.hidden, everything.learner.encoded.state.hidden, atol=1e-6)
    for name in ("product_ids", "categories", "price", "list_price", "unit_cost", "stock", "last_change"):
        np.testing.assert_array_equal(getattr(rows.facts, name), getattr(everything.facts, name), err_msg=name)
    assert rows.facts.recurring == everything.facts.recurring


def test_a_champion_whose_files_are_gone_can_only_be_replaced_by_force_or_rolled_back_from(shop: Shop) -> None:
    first = shop.crown()
    (files,) = shop.files()
    shop.crown(seed=3)
    for path in shop.files() - {files}:
        shutil.rmtree(path)
    second = shop.add(seed=2)

    assert promote.main([]) == 2
    assert promote.main(["--force", "true", "--reason", "the bucket was emptied"]) == 0

    assert shop.champion == second
    assert shop.missed == ["products", "anchors", "against_champion"]
    (broken,) = shop.files() - {files}
    shutil.rmtree(broken)
    assert rollback.main(["--version", first, "--reason", "its files are gone"]) == 0


def test_deleting_a_version_deletes_its_files_but_those_that_a_copy_of_it_shares(shop: Shop) -> None:
    copied, registered, own = (shop.add(seed=seed, alias=None) for seed in (1, 2, 3))
    client = MlflowClient()
    client.copy_model_version(f"models:/pricing/{copied}", "copies")
    mlflow.register_model(client.get_model_version("pricing", registered).source, "copies")

    for number in (copied, registered, own):
        shop.registry.delete(number)

    assert shop.registry.versions() == []
    for number in ("1", "2"):
        assert Registry("copies", uri=shop.registry.uri).download(number, shop.folder / f"copy-{number}").is_dir()
    assert len(shop.files()) == 2


def test_the_pyfunc_gives_the_prices_of_the_library(shop: Shop) -> None:
    number = shop.add()
    version = shop.fetch("challenger")
    model = mlflow.pyfunc.load_model("models:/pricing@challenger")
    known = [str(product) for product in version.demand.product_ids[:3]]
    rows: list[dict[str, Any]] = [
        {"product_id": known[0], "current_stock": 150, "day_of_week": "Friday", "comp_price": 20},
        {"product_id": "nobody knows", "current_stock": 0, "day_of_week": "Monday", "list_price": 9.5},
        {"product_id": known[2], "day_of_week": "Monday"},
        {"product_id": known[1], "current_stock": 3.5, "day_of_week": "Sunday", "is_promo": True},
    ]

    answer = model.predict(pd.DataFrame(rows), params={"today": "2024-06-03"})

    table = [PriceRequest(**({"comp_price": None} | row)) for row in rows]  # an empty cell of a table is a null
    expected = version.pricer(version="x").price(table, today=dt.date(2024, 6, 3))
    assert answer["recommended_price"].tolist() == [decision.recommended_price for decision in expected]
    assert answer["source"].tolist() == [decision.source for decision in expected]
    for name in ("reasons", "binds", "gave_way"):
        assert answer[name].tolist() == [getattr(decision, name) for decision in expected]
    assert set(answer["model_version"]) == {number}
    with pytest.raises(UnknownProductError, match="'nobody knows'"):
        model.predict(pd.DataFrame([{**rows[1], "list_price": None}]))

    frozen = Control(Switches([freeze()]), entries=1)
    FolderStore(shop.folder / "home" / "published").put(control_key("pricing"), frozen.to_json())
    assert "frozen" in model.predict(pd.DataFrame(rows[:1]))["reasons"][0]


def test_a_champion_of_another_shop_is_the_one_thing_that_a_challenger_is_told(shop: Shop) -> None:
    shop.crown()
    others = shop.panel(120)
    strange = replace(others, product_ids=np.array([f"Z{name}" for name in others.product_ids]))
    shop.add(days=120, panel=strange, data={"fingerprint": "of another shop"})

    assert promote.main([]) == EXIT_REFUSED
    assert shop.missed == ["products"]


def test_a_products_name_is_no_markup_in_the_report_of_a_promotion() -> None:
    verdict = Verdict("products", 0.5, "share", low=0.9, advice="it lacks 1 of 2: a|b <img src=x>")

    assert r"a\|b &lt;img src=x&gt; |" in report("pricing", asked("2", "1"), [verdict])


def pointer(where: Path) -> Pointer:
    return parse_pointer(FolderStore(where).get(pointer_key("pricing")) or b"", model="pricing")


def test_a_promotion_that_cannot_be_published_exits_4_until_publish_mends_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    where = tmp_path / "published"
    monkeypatch.setenv("PRICING_PUBLISHED", str(where))
    where.write_text("a file in the way")
    first = shop.add()

    code = promote.main(FORCE)
    history.main([])
    said = capsys.readouterr()
    where.unlink()
    mended = publish.main([])

    assert (code, mended) == (EXIT_NOT_PUBLISHED, 0)
    assert shop.champion == first
    assert "not published" in said.out
    before = pointer(where)
    assert before.champion.number == first
    shop.add(seed=2)
    assert promote.main(FORCE) == rollback.main(FORCE) == 0
    after = pointer(where)
    assert after.champion == before.champion
    assert after.sequence > before.sequence


def test_publish_serves_what_was_moved_by_hand_the_versions_that_are_tried_and_the_control_table(
    shop: Shop, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    assert publish.main([]) == 0  # nothing to publish yet
    numbers = [shop.add(seed=seed, alias=None) for seed in (1, 2)]
    arms = (Arm("challenger", share=0.5, of=numbers[1]), Arm("rule", share=0.5))
    put_control(home, freeze(), Experiment("spring", dt.date(2024, 4, 29), None, arms, {"tea": "rule"}))
    shop.registry.set_alias("champion", numbers[0])

    assert publish.main([]) == 0

    found = pointer(home / "published")
    assert [one.number for one in found.served] == numbers
    assert shop.last.action == "by_hand"
    assert FolderStore(home / "published").get(control_key("pricing")) is not None


def test_a_control_table_that_is_away_keeps_no_champion_from_being_published(shop: Shop, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "home" / "published")
    put_control(tmp_path / "home", freeze())
    assert publish.main([]) == 0
    mirror = store.get(control_key("pricing"))
    (tmp_path / "home" / "pricing.db").unlink()
    shop.registry.set_alias("champion", shop.add(alias=None))

    with pytest.raises(PricingError):
        publish.look(load_config())

    assert pointer(tmp_path / "home" / "published").champion.number == "1"
    assert store.get(control_key("pricing")) == mirror is not None
