import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from pipelines import history, promote, refresh, rollback
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.panel import Panel, save_panel
from pricing.decision.control import Control
from pricing.decision.product_facts import ProductFacts
from pricing.decision.request import PriceRequest
from pricing.decision.switches import Switch, Switches
from pricing.demand.state import span
from pricing.errors import UnknownProductError
from pricing.objects import FolderStore
from pricing.registry.audit import Audit, AuditEntry
from pricing.registry.gates import Verdict
from pricing.registry.mlflow_registry import Registry
from pricing.registry.promotion import PromotionRequest
from pricing.registry.published import control_key
from pricing.registry.version import LoadedVersion, Origin, load, pack
from pricing.runtime.cli import EXIT_REFUSED
from pricing.runtime.shared_state import database_url
from tests.kit.mlflow_jobs import ROOT, cut_off_before
from tests.kit.panels import panel_frame
from tests.kit.promotions import figures, history_anchors, packed
from tests.kit.versions import make_demand, make_panel

pytestmark = pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # MLflow's own classes


@pytest.fixture(scope="module")
def whole() -> Panel:
    return make_panel(products=12, days=180)


@dataclass
class Shop:
    """One retailer's registry, record and sales, in a folder of their own."""

    folder: Path
    registry: Registry
    whole: Panel

    def panel(self, days: int = 150) -> Panel:
        return self.whole.through(self.whole.dates[days - 1])

    def add(
        self,
        *,
        seed: int = 1,
        days: int = 150,
        alias: str | None = "challenger",
        panel: Panel | None = None,
        **changes: Any,
    ) -> str:
        """Registers a version, as train would, and returns its number."""
        folder = self.folder / f"packed-{len(list(self.folder.iterdir()))}" / "version"
        packed(folder, panel=panel or self.panel(days), seed=seed, **changes)
        with mlflow.start_run():
            number = self.registry.log_version(folder)
        if alias:
            self.registry.set_alias(alias, number)
        return number

    def sales(self, days: int, *, first: int = 0, panel: Panel | None = None) -> str:
        panel = panel or self.panel(days)
        where = self.folder / f"sales-{first}-{days}-{len(list(self.folder.iterdir()))}"
        save_panel(_since(panel, first), where)
        return str(where)

    def entries(self) -> list[AuditEntry]:
        return Audit(database_url()).entries(self.registry.identity())

    def fetch(self, reference: str) -> LoadedVersion:
        return load(self.registry.download(reference, self.folder / f"got-{len(list(self.folder.iterdir()))}"))


def _since(panel: Panel, first: int) -> Panel:
    return span(panel, first, len(panel.dates))


@pytest.fixture
def shop(empty_store: Path, whole: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "PRICING_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    store = f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("PRICING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PRICING_ACTOR", "ann")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(store)
    mlflow.set_experiment("pricing")
    yield Shop(tmp_path, Registry("pricing", uri=store), whole)
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]


def test_the_first_promotion_needs_only_the_baselines(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    number = shop.add()

    code = promote.main([])

    assert code == 0
    assert shop.registry.aliases() == {"challenger": number, "champion": number}
    (entry,) = shop.entries()
    assert (entry.who, entry.to_version, entry.from_version, entry.forced) == ("ann", number, None, False)
    assert {gate["name"] for gate in entry.gates} >= {"beats_naive", "coverage_80", "elasticity_sane", "golden"}
    assert "passes all" in capsys.readouterr().out


@pytest.mark.parametrize(("changes", "code"), [({}, 0), ({"wape": 0.6}, EXIT_REFUSED)])
def test_a_check_says_what_the_gates_find_and_changes_nothing(
    shop: Shop, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], code: int
) -> None:
    number = shop.add(**changes)
    before = shop.registry.aliases()

    assert promote.main(["--version", number, "--check", "true"]) == code

    said = capsys.readouterr()
    assert f"# pricing version {number} {'fails' if code else 'passes all'}" in said.out
    assert "| gate | | figure | needed |" in said.out
    assert "nothing was changed" in said.err
    assert shop.registry.aliases() == before
    assert shop.entries() == []


def test_a_version_that_holds_only_is_promoted_and_every_record_says_so(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.add(holds_only=True, elasticity={"share_sane": 0.0})

    code = promote.main([])
    told = capsys.readouterr().out
    history.main([])

    assert code == 0
    assert "the version is holds_only" in told
    assert "| elasticity_sane | said | 0 | – |" in told
    assert shop.registry.find("champion").holds_only
    assert shop.entries()[-1].why == "passes every gate; holds_only: prices stay"
    assert "holds_only" in next(gate["sentence"] for gate in shop.entries()[-1].gates if gate["name"] == "identified")
    assert "passes every gate; holds_only: prices stay" in capsys.readouterr().out


def test_a_refresh_and_a_rollback_keep_the_word_of_the_version_that_held_prices(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.add(holds_only=True)
    promote.main([])
    shop.add(seed=2)
    promote.main([])
    moves = shop.registry.find("champion").holds_only

    code = rollback.main(["--sales", shop.sales(160)])

    assert (code, moves) == (0, False)
    assert shop.registry.find("champion").tags["kind"] == "refresh"
    assert shop.registry.find("champion").holds_only
    assert shop.entries()[-1].why.endswith("; holds_only: prices stay")
    assert "the version is holds_only" in capsys.readouterr().out
    shop.fetch("champion").verify()


def test_a_refused_challenger_leaves_the_champion_and_exits_3(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    first = shop.add()
    promote.main([])
    worse = shop.add(seed=2, wape=0.45)

    code = promote.main([])

    assert code == EXIT_REFUSED == 3
    assert shop.registry.aliases()["champion"] == first
    assert shop.entries()[-1].outcome == "refused"
    assert f"refused: version {worse} fails against_champion; the champion stays {first}" in capsys.readouterr().err
    run = MlflowClient().get_run(shop.entries()[-1].run_id or "")
    assert run.data.tags["verdict"] == "refused"
    assert "| against_champion | **FAIL** | 1.125 |" in mlflow.artifacts.load_text(
        f"runs:/{run.info.run_id}/promotion.md"
    )


def test_force_overrules_a_gate_and_the_reason_is_recorded(shop: Shop) -> None:
    shop.add()
    promote.main([])
    worse = shop.add(seed=2, wape=0.45)

    assert promote.main(["--force", "true"]) == 2
    code = promote.main(["--force", "true", "--reason", "the old one prices tools too low"])

    assert code == 0
    assert shop.registry.aliases()["champion"] == worse
    assert shop.entries()[-1].forced
    assert shop.entries()[-1].why == "the old one prices tools too low"


def test_promoting_with_nothing_to_do_says_so_and_exits_0(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert promote.main([]) == 0
    assert "nothing to do: pricing has no challenger" in capsys.readouterr().out
    number = shop.add()
    promote.main([])
    capsys.readouterr()

    assert promote.main([]) == 0

    assert f"nothing to do: version {number} is the champion already" in capsys.readouterr().out
    assert len(shop.entries()) == 1


def test_rollback_goes_to_the_last_champion_with_other_weights(shop: Shop) -> None:
    first = shop.add()
    promote.main([])
    second = shop.add(seed=2)
    promote.main([])

    code = rollback.main(["--reason", "complaints"])

    assert code == 0
    assert shop.registry.aliases()["champion"] == first
    assert shop.registry.aliases()["previous"] == second
    assert (shop.entries()[-1].action, shop.entries()[-1].why) == ("rollback", "complaints")


def test_after_a_promotion_killed_between_its_aliases_rollback_knows_where_to_go(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    first = shop.add()
    promote.main([])
    second = shop.add(seed=2)
    promote.main([])
    third = shop.add(seed=3)
    environment = {**os.environ, **cut_off_before("champion", folder=shop.folder / "cut")}
    command = [sys.executable, "-m", "pipelines.promote"]

    killed = subprocess.run(command, cwd=ROOT, env=environment, start_new_session=True, check=False)

    assert killed.returncode == -signal.SIGKILL
    assert shop.registry.aliases() == {"champion": second, "previous": second, "challenger": third}
    assert [entry.to_version for entry in shop.entries()] == [first, second], "the champion serves on, and no other"
    assert rollback.main(["--reason", "complaints"]) == 0
    assert shop.registry.aliases() == {"champion": first, "previous": second, "challenger": third}
    assert promote.main([]) == 0
    assert shop.registry.aliases() == {"champion": third, "previous": first, "challenger": third}


def test_rollback_to_the_champion_itself_is_no_success(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    number = shop.add()
    promote.main([])
    shop.registry.set_alias("previous", number)  # as the first promotion of other weights leaves it when it is killed

    assert rollback.main([]) == 2

    assert f"no champion before version {number} had other weights" in capsys.readouterr().err


def test_rollback_with_new_rows_alone_derives_them_as_in_the_whole_history(shop: Shop) -> None:
    first = shop.add(days=140)
    promote.main([])
    shop.add(seed=2, days=150)
    promote.main([])
    rows = panel_frame(_since(shop.panel(160), 140)).drop(columns=["list_price"])
    rows.to_csv(shop.folder / "new.csv", index=False)
    past = shop.fetch(first).learner.encoded.tail
    anchors, data = shop.fetch("champion").anchors, load_config().data
    known, blind = build_panel(rows, data, past=past, anchors=anchors), build_panel(rows, data)
    assert not np.array_equal(known.list_price, blind.list_price, equal_nan=True)

    assert rollback.main(["--sales", str(shop.folder / "new.csv")]) == 0

    tail = shop.fetch("champion").learner.encoded.tail
    new = np.isin(tail.dates, known.dates)
    np.testing.assert_allclose(tail.list_price[:, new], known.list_price)
    np.testing.assert_array_equal(tail.is_promo[:, new], known.is_promo)


def test_history_shows_what_was_in_production_when(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    first = shop.add()
    promote.main(["--reason", "the first"])
    second = shop.add(seed=2)
    promote.main([])
    rollback.main(["--reason", "complaints"])
    capsys.readouterr()

    assert history.main([]) == 0

    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line[:1].isdigit()]
    assert [row[1] for row in rows] == [first, second, first]
    assert [row[3] for row in rows] == [*(row[2] for row in rows[1:]), "now"]


def test_a_champion_scored_on_other_sales_is_refitted_on_the_challengers(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.add()
    promote.main([])
    other = packed_with_other_settings(shop)

    code = promote.main(["--version", other])

    assert code == 2
    error = capsys.readouterr().err
    assert "the champion is refitted on the challenger's; give --sales 'sales.csv'" in error
    assert promote.main(["--version", other, "--sales", shop.sales(150)]) == 2
    assert "holds other sales than those" in capsys.readouterr().err
    assert promote.main(["--version", other, "--force", "true", "--reason", "sales are gone"]) == 0
    assert "against_champion" in [gate["name"] for gate in shop.entries()[-1].gates if not gate["passed"]]


def packed_with_other_settings(shop: Shop) -> str:
    """A challenger scored on other data and trained with other settings than the champion."""
    return packed_with(shop, fingerprint="f2", seed=99)


def packed_with(shop: Shop, *, fingerprint: str, **demand: int) -> str:
    config = load_config()
    config = config.model_copy(update={"demand": config.demand.model_copy(update=demand)})
    panel = shop.panel()
    folder = shop.folder / "other" / "version"
    pack(
        folder,
        demand=make_demand(panel, seed=5),
        facts=ProductFacts.from_panel(panel),
        config=config,
        backtest={**figures(), "data": {"fingerprint": fingerprint, "source": "sales.csv", "last_date": "2030-01-01"}},
        origin=Origin(kind="train", data={}),
        holds_only=False,
        anchors=history_anchors(panel),
    )
    with mlflow.start_run():
        return shop.registry.log_version(folder)


def test_a_champion_with_the_same_settings_is_not_refitted(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.add()
    promote.main([])
    number = shop.add(seed=2, data={"fingerprint": "f2"}, wape=0.45)

    assert promote.main([]) == 0

    assert shop.registry.aliases()["champion"] == number
    assert against_champion(shop)["figure"] is None
    assert "not compared: the champion has the challenger's settings" in capsys.readouterr().out


def against_champion(shop: Shop) -> dict[str, Any]:
    (gate,) = [gate for gate in shop.entries()[-1].gates if gate["name"] == "against_champion"]
    return gate


@pytest.mark.parametrize(
    ("ratio", "champion", "days", "passes"),
    [(1.4, "1", 1, True), (1.4, "7", 1, False), (1.4, "1", 60, False)],
    ids=["in decay", "another version's", "long ago"],
)
def test_a_champion_in_decay_is_held_against_its_error_in_production(
    shop: Shop, ratio: float, champion: str, days: int, passes: bool
) -> None:
    shop.add()
    promote.main([])
    client = MlflowClient()
    began = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
    tags = {"job": "monitor", "champion": champion}
    elsewhere = client.get_experiment_by_name("Default")
    assert elsewhere is not None
    run = client.create_run(elsewhere.experiment_id, start_time=int(began.timestamp() * 1000), tags=tags).info.run_id
    client.log_param(run, "registry.model_name", "pricing")
    client.log_metric(run, "wape_to_backtest", ratio)
    volumes = {name: {"wape": 0.45, "wape_baseline": 0.5} for name in ("low", "mid", "high")}
    shop.add(seed=2, wape=0.45, by_volume=volumes)

    assert promote.main([]) == (0 if passes else EXIT_REFUSED)

    gate = against_champion(shop)
    assert gate["figure"] == pytest.approx(0.45 / 0.40 / (1.4 if passes else 1.0))
    assert ("in production version 1 errs 1.4 times as much" in gate["sentence"]) is passes


def test_a_record_that_does_not_answer_changes_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = shop.add()
    monkeypatch.setenv("PRICING_DATABASE_URL", "postgresql://me:secret@127.0.0.1:9/record")

    assert promote.main([]) == 2

    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "PRICING_DATABASE_URL" in error
    assert "secret" not in error
    assert shop.registry.aliases() == {"challenger": number}


def test_a_damaged_version_is_never_promoted(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.add()
    (array,) = shop.folder.glob("mlruns/*/models/*/artifacts/artifacts/version/products/price.npy")
    array.write_bytes(array.read_bytes()[:-1] + b"\x7f")

    code = promote.main(["--force", "true", "--reason", "hurry"])

    assert code == 2
    assert "products/price.npy is damaged" in capsys.readouterr().err
    assert "champion" not in shop.registry.aliases()


def test_a_refresh_is_the_same_weights_with_newer_states_and_passes_on_parity_alone(shop: Shop) -> None:
    first = shop.add(days=150, wape=0.49)
    promote.main([])

    assert refresh.main(["--sales", shop.sales(160)]) == 0
    assert promote.main([]) == 0

    champion = shop.registry.find("champion")
    assert champion.number != first
    assert champion.weights == shop.registry.find(first).weights
    assert champion.tags["backtest"] == shop.registry.find(first).tags["backtest"]
    assert champion.tags["kind"] == "refresh"
    assert champion.tags["state_date"] == str(shop.panel(160).dates[-1])
    named = ["identified", "fresh", "parity", "golden", "products", "anchors", "price_moves"]
    assert [gate["name"] for gate in shop.entries()[-1].gates] == named
    assert "previous" not in shop.registry.aliases()


def test_refreshing_with_the_new_rows_alone_equals_refreshing_with_everything(shop: Shop) -> None:
    shop.add(days=150, alias="champion")

    refresh.main(["--sales", shop.sales(160)])
    everything = shop.fetch("challenger")
    refresh.main(["--sales", shop.sales(160, first=150)])
    rows = shop.fetch("challenger")

    assert everything.meta["checks"]["parity_from_scratch"]
    assert not rows.meta["checks"]["parity_from_scratch"]
    np.testing.assert_allclose(rows.learner.encoded.state.hidden, everything.learner.encoded.state.hidden, atol=1e-6)
    for name in ("product_ids", "categories", "price", "list_price", "unit_cost", "stock", "last_change"):
        np.testing.assert_array_equal(rows.facts.to_arrays()[name], everything.facts.to_arrays()[name], err_msg=name)
    assert rows.facts.recurring == everything.facts.recurring


def test_a_gap_or_an_older_panel_is_found_and_said(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.add(days=150, alias="champion")

    assert refresh.main(["--sales", shop.sales(165, first=155)]) == 2
    assert "periods between are missing" in capsys.readouterr().err
    assert refresh.main(["--sales", shop.sales(140)]) == 2
    assert "before the state's date" in capsys.readouterr().err
    assert "challenger" not in shop.registry.aliases()


def test_a_challenger_with_older_states_than_the_champion_is_refused_until_they_are_carried_forward(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.add(days=150)
    promote.main([])
    older = shop.add(seed=2, days=140)

    assert promote.main([]) == 3

    assert [gate["name"] for gate in shop.entries()[-1].gates if not gate["passed"]] == ["fresh"]
    assert f"`pricing refresh --version {older} --sales …`" in capsys.readouterr().err
    assert refresh.main(["--version", older, "--sales", shop.sales(150)]) == 0
    assert promote.main([]) == 0
    assert shop.registry.find("champion").weights == shop.registry.find(older).weights


def test_a_champion_whose_files_are_gone_can_only_be_replaced_by_force(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.add()
    promote.main([])
    (files,) = shop.folder.glob("mlruns/*/models/*/artifacts/artifacts/version")
    shutil.rmtree(files)
    second = shop.add(seed=2)

    assert promote.main([]) == 2
    assert promote.main(["--force", "true", "--reason", "the bucket was emptied"]) == 0

    assert shop.registry.aliases()["champion"] == second
    missed = [gate["name"] for gate in shop.entries()[-1].gates if not gate["passed"]]
    assert missed == ["products", "anchors", "against_champion"]


def test_the_pyfunc_gives_the_prices_of_the_library(shop: Shop) -> None:
    shop.add()
    version = shop.fetch("challenger")
    model = mlflow.pyfunc.load_model("models:/pricing@challenger")
    rows: list[dict[str, Any]] = [
        {
            "product_id": str(version.demand.product_ids[0]),
            "current_stock": 150,
            "day_of_week": "Friday",
            "comp_price": 20,
        },
        {"product_id": "nobody knows", "current_stock": 0, "day_of_week": "Monday", "list_price": 9.5},
        {"product_id": str(version.demand.product_ids[2]), "day_of_week": "Monday"},
        {
            "product_id": str(version.demand.product_ids[1]),
            "current_stock": 3.5,
            "day_of_week": "Sunday",
            "is_promo": True,
        },
    ]

    answer = model.predict(pd.DataFrame(rows), params={"today": "2024-06-03"})

    table = [PriceRequest(**({"comp_price": None} | row)) for row in rows]  # an empty cell of a table is a null
    expected = version.pricer(version="x").price(table, today=dt.date(2024, 6, 3))
    assert answer["recommended_price"].tolist() == [decision.recommended_price for decision in expected]
    assert answer["source"].tolist() == [decision.source for decision in expected]
    assert answer["reasons"].tolist() == [decision.reasons for decision in expected]

    fields: dict[str, Any]
    for fields in ({"strict": True}, {"list_price": None}):
        with pytest.raises(UnknownProductError, match="'nobody knows'"):
            model.predict(pd.DataFrame([{**rows[1], **fields}]))

    made: dict[str, Any] = {"reason": "wrong costs", "by": "ann", "at": dt.datetime(2024, 5, 1, tzinfo=dt.UTC)}
    freeze = Control(Switches([Switch(action="freeze", scope="all", **made)]), sequence=1)
    FolderStore(shop.folder / "home" / "published").put(control_key("pricing"), freeze.to_json())
    assert "frozen" in model.predict(pd.DataFrame(rows[:1]))["reasons"][0]


def test_a_champion_of_another_shop_is_the_one_thing_that_a_challenger_is_told(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.add(days=150)
    promote.main([])
    others = shop.panel(120)
    strange = replace(others, product_ids=np.array([f"Z{name}" for name in others.product_ids]))
    shop.add(days=120, panel=strange, data={"fingerprint": "of another shop"})

    code = promote.main([])

    said = capsys.readouterr().err
    assert code == EXIT_REFUSED
    assert [gate["name"] for gate in shop.entries()[-1].gates if not gate["passed"]] == ["products"]
    assert "model_name" in said
    assert "refresh" not in said


def test_a_products_name_is_no_markup_in_the_report_of_a_promotion() -> None:
    verdict = Verdict("products", 0.5, 0.9, False, "it lacks 1 of 2: a|b <img src=x>")
    request = PromotionRequest(action="promote", to="2", expected="1", who="ann", at="2026-03-04T05:06:07", why="test")

    text = history.report("pricing", request, [verdict])

    assert r"a\|b &lt;img src=x&gt;" in text
    assert "<img" not in text
