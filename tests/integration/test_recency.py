"""Whether older days count less in a training, with stand-ins for the training itself."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import recency, train
from pipelines.recency import Weighing, weigh
from pricing.config import load_config
from pricing.config_models import DemandConfig
from pricing.data.panel import Panel
from pricing.demand.folds import Fold
from tests.kit.versions import make_panel

CONFIG = load_config().demand.model_copy(update={"horizon": 28, "min_history": 60})
WHOLE = make_panel(days=150)


class Fits:
    """Stands in for training and scoring: keeps what it was asked, and scores as told."""

    def __init__(self, *, recent: float = 0.4, alike: float = 0.5) -> None:
        self.asked: list[tuple[Panel, float | None]] = []
        self.folds: list[Fold] = []
        self._wapes = {True: recent, False: alike}

    def fit(self, past: Panel, config: DemandConfig, **_: Any) -> Any:
        self.asked.append((past, config.recency_half_life))
        return SimpleNamespace(model=config.recency_half_life)

    def score(self, half_life: float | None, *, past: Panel, panel: Panel, fold: Fold) -> float:
        self.folds.append(fold)
        return self._wapes[half_life is not None]


def ask(half_life: float, fits: Fits, **changes: Any) -> Weighing:
    return weigh(
        WHOLE,
        CONFIG.model_copy(update=changes),
        half_life=half_life,
        calendar=lambda days: days < days[0],
        fit=fits.fit,
        score=fits.score,
    )


@pytest.mark.parametrize(("recent", "taken"), [(0.4, True), (0.5, True), (0.51, False), (float("nan"), False)])
def test_days_are_weighed_where_that_scores_no_worse(recent: float, taken: bool) -> None:
    fits = Fits(recent=recent)

    found = ask(56.0, fits)

    assert found.half_life == (56.0 if taken else None)
    assert found.why.startswith("recent: WAPE" if taken else "alike: WAPE")
    assert found.figures == pytest.approx({"recent_wape": recent, "alike_wape": 0.5}, nan_ok=True)
    assert [half_life for _, half_life in fits.asked] == [56.0, None]


@pytest.mark.parametrize(("half_life", "scored"), [(56.0, 14), (28.0, 7), (8.0, 7), (400.0, 28)])
def test_both_ways_are_scored_on_the_newest_days_and_learn_from_none_of_them(half_life: float, scored: int) -> None:
    fits = Fits()

    ask(half_life, fits)

    cutoff = WHOLE.dates[-1 - scored]
    assert fits.folds == [Fold(cutoff, WHOLE.dates[-scored], WHOLE.dates[-1])] * 2
    assert [past.dates[-1] for past, _ in fits.asked] == [cutoff] * 2


def test_with_too_little_history_to_compare_on_all_days_count_alike() -> None:
    fits = Fits()

    found = ask(56.0, fits, min_history=140)

    assert (found.half_life, found.figures, fits.asked) == (None, {}, [])
    assert "less than demand.min_history (140) days" in found.why


@pytest.mark.parametrize("half_life", [None, 56.0])
def test_a_training_takes_the_half_life_that_was_found_and_says_why(
    monkeypatch: pytest.MonkeyPatch, half_life: float | None
) -> None:
    kept: dict[str, Any] = {}
    monkeypatch.setattr(recency, "weigh", lambda *_, **__: Weighing(half_life, "as it came out", {"recent_wape": 0.4}))
    monkeypatch.setattr(train, "import_tensorflow", lambda: None)
    monkeypatch.setattr(train.mlflow, "set_tags", kept.update)
    monkeypatch.setattr(train.mlflow, "log_metrics", kept.update)
    said: list[str] = []
    say: Callable[[str], None] = said.append

    config = train._weighed(WHOLE, load_config(), half_life=56.0, say=say)

    assert config.demand.recency_half_life == half_life
    assert kept == {"recent_wape": 0.4, "recency": "as it came out", "recency_asked": "56"}
    assert said[-1] == "as it came out"
