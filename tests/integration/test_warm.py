from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines import train
from pipelines.warm import Choice, choose_start
from pricing.config import load_config
from pricing.config_models import DemandConfig
from pricing.data.panel import Panel
from pricing.demand.folds import Fold
from pricing.demand.model import DemandModel
from pricing.demand.training import Start, Trained
from pricing.errors import RegistryError
from pricing.registry.mlflow_registry import RegisteredVersion
from pricing.registry.version import LoadedVersion, load
from tests.kit.promotions import packed
from tests.kit.versions import UNITS, make_demand, make_panel

CONFIG = load_config().demand.model_copy(update={"units": UNITS, "horizon": 28, "min_history": 60})


@pytest.fixture(scope="module")
def whole() -> Panel:
    return make_panel(days=150)


@pytest.fixture(scope="module")
def folder(whole: Panel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version trained on the first 130 of 150 days."""
    where = tmp_path_factory.mktemp("earlier") / "version"
    packed(where, panel=whole.through(whole.dates[129]))
    return where


@pytest.fixture
def earlier(folder: Path) -> LoadedVersion:
    version = load(folder)
    demand = version.config.demand.model_copy(update={"units": UNITS})
    return replace(version, config=version.config.model_copy(update={"demand": demand}))


class Fits:
    """Stands in for training and scoring: keeps what it was asked, and scores as told."""

    def __init__(self, *, warm_wape: float = 0.4, cold_wape: float = 0.5) -> None:
        self.asked: list[tuple[Panel, Start | None]] = []
        self.scored: list[Fold] = []
        self.widen = False
        self._wapes = {"warm": warm_wape, "cold": cold_wape}
        self.identified: Any = SimpleNamespace()

    def fit(self, past: Panel, config: DemandConfig, *, start: Start | None = None, **_: Any) -> Trained:
        self.asked.append((past, start))
        model = make_demand(past, seed=9 if start is None else 8, units=UNITS * 2 if self.widen else UNITS)
        return Trained(model, Start(model.weights, self.identified), model.levels())

    def score(self, model: DemandModel, *, past: Panel, panel: Panel, fold: Fold) -> float:
        self.scored.append(fold)
        cold = make_demand(past, seed=9).weights_hash() == model.weights_hash()
        return self._wapes["cold" if cold else "warm"]


def choose(panel: Panel, earlier: LoadedVersion, fits: Fits, **changes: Any) -> Choice:
    return choose_start(
        panel,
        earlier,
        CONFIG.model_copy(update=changes),
        calendar=lambda days: days < days[0],
        fit=fits.fit,
        score=fits.score,
    )


@pytest.mark.parametrize(("warm_wape", "starts"), [(0.4, True), (0.5, True), (0.51, False), (float("nan"), False)])
def test_a_start_from_earlier_weights_is_taken_where_it_scores_no_worse(
    whole: Panel, earlier: LoadedVersion, warm_wape: float, starts: bool
) -> None:
    fits = Fits(warm_wape=warm_wape, cold_wape=0.5)

    choice = choose(whole, earlier, fits)

    assert (choice.start is not None) is starts
    assert choice.why.startswith("warm: WAPE" if starts else "cold: WAPE")
    assert choice.figures == pytest.approx({"warm_wape": warm_wape, "cold_wape": 0.5}, nan_ok=True)


def test_both_ways_are_scored_on_days_that_the_earlier_version_has_not_seen(
    whole: Panel, earlier: LoadedVersion
) -> None:
    fits = Fits()

    choose(whole, earlier, fits)

    (past, cold), (same_past, start) = fits.asked
    assert fits.scored == [Fold(whole.dates[129], whole.dates[130], whole.dates[149])] * 2
    assert past.dates[-1] == same_past.dates[-1] == whole.dates[129]
    assert cold is None
    assert start is not None
    assert start.identified is fits.identified, "both ways share the fold's elasticities"
    _same(start.weights, earlier.demand.weights)


def test_the_training_itself_learns_its_elasticities_anew(whole: Panel, earlier: LoadedVersion) -> None:
    fits = Fits()

    start = choose(whole, earlier, fits).start

    assert start is not None
    assert start.identified is None
    _same(start.weights, earlier.demand.weights)


def test_an_old_version_is_compared_on_the_newest_fold_alone(whole: Panel, earlier: LoadedVersion) -> None:
    fits = Fits()

    choose(whole, earlier, fits, horizon=8, gap=2)

    assert fits.scored[0] == Fold(whole.dates[139], whole.dates[142], whole.dates[149])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"horizon": 84}, r"20 days since the earlier training are too few to compare on \(at least 21\)"),
        ({"min_history": 131}, "less than demand.min_history"),
        ({"units": 64}, "the earlier network has 8 units, not 64"),
    ],
)
def test_what_cannot_be_compared_starts_cold_and_says_why(
    whole: Panel, earlier: LoadedVersion, changes: dict[str, int], why: str
) -> None:
    fits = Fits()

    choice = choose(whole, earlier, fits, **changes)

    assert choice.start is None
    assert not fits.asked, "nothing is trained in vain"
    with pytest.raises(ValueError, match=why):
        raise ValueError(choice.why)


def test_other_categories_or_another_shape_start_cold(whole: Panel, earlier: LoadedVersion) -> None:
    fits = Fits()
    renamed = replace(whole, categories=np.where(whole.categories == whole.categories[0], "zeal", whole.categories))

    other = choose(renamed, earlier, fits)
    fits.widen = True
    wider = choose(whole, earlier, fits)

    assert (other.start, wider.start) == (None, None)
    assert "other categories" in other.why
    assert "another shape" in wider.why


def test_a_version_that_does_not_say_until_when_it_was_trained_is_no_start(
    whole: Panel, earlier: LoadedVersion
) -> None:
    choice = choose(whole, replace(earlier, backtest={}), Fits())

    assert (choice.start, choice.figures) == (None, {})
    assert "does not say until when" in choice.why


def _same(some: Mapping[str, Any] | None, others: Mapping[str, Any]) -> None:
    assert some is not None
    assert some.keys() == others.keys()
    for name, value in some.items():
        np.testing.assert_array_equal(value, others[name])


def test_a_version_whose_files_are_gone_starts_cold_and_says_why(monkeypatch: pytest.MonkeyPatch, whole: Panel) -> None:
    def gone(number: str, folder: Path) -> Path:
        raise RegistryError(f"version {number}: its files are gone")

    tags: dict[str, str] = {}
    said: list[str] = []
    monkeypatch.setattr(train, "_registry", lambda _config: SimpleNamespace(download=gone))
    monkeypatch.setattr(train, "mlflow", SimpleNamespace(log_metrics=lambda _: None, set_tags=tags.update))

    choice = train._start(whole, load_config(), RegisteredVersion("7", "run", 0, ()), say=said.append)

    assert choice.start is None
    assert choice.why == "cold: version 7: its files are gone" == said[-1]
    assert tags == {"start": choice.why, "start_version": "none"}
