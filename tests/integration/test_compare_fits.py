"""Two ways to fit are compared on one fold, with fakes for fitting and scoring."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines import compare_fits, train
from pipelines.compare_fits import FitChoice, choose_half_life, choose_start
from pricing.config import load_config
from pricing.config_models import DemandConfig
from pricing.data.panel import Panel
from pricing.demand.folds import Fold
from pricing.demand.model import DemandModel
from pricing.demand.training import Trained, WarmStart
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


class StartFits:
    """Fits and scores as told, and keeps what it was asked."""

    def __init__(self, *, warm_wape: float = 0.4, cold_wape: float = 0.5) -> None:
        self.asked: list[tuple[Panel, WarmStart | None]] = []
        self.scored: list[Fold] = []
        self.widen = False
        self._wapes = {"warm": warm_wape, "cold": cold_wape}
        self.identified: Any = SimpleNamespace()

    def fit(self, past: Panel, config: DemandConfig, *, start: WarmStart | None = None, **_: Any) -> Trained:
        self.asked.append((past, start))
        model = make_demand(past, seed=9 if start is None else 8, units=UNITS * 2 if self.widen else UNITS)
        return Trained(model, WarmStart(model.weights, self.identified), model.levels())

    def score(self, model: DemandModel, *, past: Panel, panel: Panel, fold: Fold) -> float:
        self.scored.append(fold)
        cold = make_demand(past, seed=9).weights_hash() == model.weights_hash()
        return self._wapes["cold" if cold else "warm"]


def choose(panel: Panel, earlier: LoadedVersion, fits: StartFits, **changes: Any) -> FitChoice[WarmStart]:
    config = CONFIG.model_copy(update=changes)
    return choose_start(panel, earlier, config, calendar=lambda days: days < days[0], fit=fits.fit, score=fits.score)


@pytest.mark.parametrize(("warm_wape", "starts"), [(0.4, True), (0.5, True), (0.51, False), (float("nan"), False)])
def test_a_start_from_earlier_weights_is_taken_where_it_scores_no_worse(
    whole: Panel, earlier: LoadedVersion, warm_wape: float, starts: bool
) -> None:
    choice = choose(whole, earlier, StartFits(warm_wape=warm_wape, cold_wape=0.5))

    assert (choice.taken is not None) is starts
    assert choice.why.startswith("warm: WAPE" if starts else "cold: WAPE")
    assert choice.figures == pytest.approx({"warm_wape": warm_wape, "cold_wape": 0.5}, nan_ok=True)


def test_both_ways_are_scored_on_days_that_the_earlier_version_has_not_seen(
    whole: Panel, earlier: LoadedVersion
) -> None:
    fits = StartFits()

    choose(whole, earlier, fits)

    (past, cold), (same_past, start) = fits.asked
    assert fits.scored == [Fold(whole.dates[129], whole.dates[130], whole.dates[149])] * 2
    assert past.dates[-1] == same_past.dates[-1] == whole.dates[129]
    assert cold is None
    assert start is not None
    assert start.identified is fits.identified, "both ways share the fold's elasticities"
    _same(start.weights, earlier.demand.weights)


def test_the_training_itself_learns_its_elasticities_anew(whole: Panel, earlier: LoadedVersion) -> None:
    start = choose(whole, earlier, StartFits()).taken

    assert start is not None
    assert start.identified is None
    _same(start.weights, earlier.demand.weights)


def test_an_old_version_is_compared_on_the_newest_fold_alone(whole: Panel, earlier: LoadedVersion) -> None:
    fits = StartFits()

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
    fits = StartFits()

    choice = choose(whole, earlier, fits, **changes)

    assert choice.taken is None
    assert not fits.asked, "nothing is trained in vain"
    with pytest.raises(ValueError, match=why):
        raise ValueError(choice.why)


def test_other_categories_or_another_shape_start_cold(whole: Panel, earlier: LoadedVersion) -> None:
    fits = StartFits()
    renamed = replace(whole, categories=np.where(whole.categories == whole.categories[0], "zeal", whole.categories))

    other = choose(renamed, earlier, fits)
    fits.widen = True
    wider = choose(whole, earlier, fits)

    assert (other.taken, wider.taken) == (None, None)
    assert "other categories" in other.why
    assert "another shape" in wider.why


def test_a_version_that_does_not_say_until_when_it_was_trained_is_no_start(
    whole: Panel, earlier: LoadedVersion
) -> None:
    choice = choose(whole, replace(earlier, backtest={}), StartFits())

    assert (choice.taken, choice.figures) == (None, {})
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

    assert choice.taken is None
    assert choice.why == "cold: version 7: its files are gone" == said[-1]
    assert tags == {"start": choice.why, "start_version": "none"}


class HalfLifeFits:
    """Fits and scores as told, and keeps what it was asked."""

    def __init__(self, *, recent: float = 0.4, alike: float = 0.5) -> None:
        self.asked: list[tuple[Panel, float | None]] = []
        self.folds: list[Fold] = []
        self._wapes = {True: recent, False: alike}

    def fit(self, past: Panel, config: DemandConfig, **_: Any) -> Any:
        self.asked.append((past, config.recency_half_life))
        return SimpleNamespace(model=config.recency_half_life)

    def score(self, half_life: Any, *, past: Panel, panel: Panel, fold: Fold) -> float:
        self.folds.append(fold)
        return self._wapes[half_life is not None]


def ask(half_life: float, fits: HalfLifeFits, **changes: Any) -> FitChoice[float]:
    return choose_half_life(
        make_panel(days=150),
        CONFIG.model_copy(update=changes),
        half_life=half_life,
        calendar=lambda days: days < days[0],
        fit=fits.fit,
        score=fits.score,
    )


@pytest.mark.parametrize(("recent", "taken"), [(0.4, True), (0.5, True), (0.51, False), (float("nan"), False)])
def test_days_are_weighed_where_that_scores_no_worse(recent: float, taken: bool) -> None:
    fits = HalfLifeFits(recent=recent)

    found = ask(56.0, fits)

    assert found.taken == (56.0 if taken else None)
    assert found.why.startswith("recent: WAPE" if taken else "alike: WAPE")
    assert found.figures == pytest.approx({"recent_wape": recent, "alike_wape": 0.5}, nan_ok=True)
    assert [half_life for _, half_life in fits.asked] == [56.0, None]


@pytest.mark.parametrize(("half_life", "scored"), [(56.0, 14), (28.0, 7), (8.0, 7), (400.0, 28)])
def test_both_ways_are_scored_on_the_newest_days_and_learn_from_none_of_them(
    whole: Panel, half_life: float, scored: int
) -> None:
    fits = HalfLifeFits()

    ask(half_life, fits)

    cutoff = whole.dates[-1 - scored]
    assert fits.folds == [Fold(cutoff, whole.dates[-scored], whole.dates[-1])] * 2
    assert [past.dates[-1] for past, _ in fits.asked] == [cutoff] * 2


def test_with_too_little_history_to_compare_on_all_days_count_alike() -> None:
    fits = HalfLifeFits()

    found = ask(56.0, fits, min_history=140)

    assert (found.taken, found.figures, fits.asked) == (None, {}, [])
    assert "less than demand.min_history (140) days" in found.why


@pytest.mark.parametrize("half_life", [None, 56.0])
def test_a_training_takes_the_half_life_that_was_found_and_says_why(
    whole: Panel, monkeypatch: pytest.MonkeyPatch, half_life: float | None
) -> None:
    kept: dict[str, Any] = {}
    chosen = FitChoice(half_life, "as it came out", {"recent_wape": 0.4})
    monkeypatch.setattr(compare_fits, "choose_half_life", lambda *_, **__: chosen)
    monkeypatch.setattr(train, "import_tensorflow", lambda: None)
    monkeypatch.setattr(train.mlflow, "set_tags", kept.update)
    monkeypatch.setattr(train.mlflow, "log_metrics", kept.update)
    said: list[str] = []
    say: Callable[[str], None] = said.append

    config = train._weighed(whole, load_config(), half_life=56.0, say=say)

    assert config.demand.recency_half_life == half_life
    assert kept == {"recency/recent_wape": 0.4, "recency": "as it came out", "recency_asked": "56"}
    assert said[-1] == "as it came out"
