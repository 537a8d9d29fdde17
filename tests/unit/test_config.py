from pathlib import Path

import pytest

from pricing.config import DEFAULT_PATH, load_config
from pricing.errors import ConfigError
from pricing.sections import ChoicesConfig, RangeConfig


@pytest.mark.parametrize("path", sorted(DEFAULT_PATH.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_of_the_project_is_sound(path: Path) -> None:
    config = load_config(path)

    assert config.data.list_price_window <= config.demand.checkpoint


def test_a_list_price_window_longer_than_the_kept_rows_is_refused_and_both_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: {list_price_window: 9}\ndemand: {checkpoint: 8}\n")

    with pytest.raises(ConfigError) as failure:
        load_config(path)

    said = str(failure.value)
    assert "data.list_price_window 9" in said
    assert "demand.checkpoint 8" in said
    assert len(said) < 300  # the fault, and not the whole configuration


def test_choices_to_search_replace_a_range_and_a_range_replaces_choices(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "tuning: {space: {units: {choices: [8, 16]}, recency_half_life: {low: 60, high: 90}, steps: {high: 500}}}\n"
    )

    space = load_config(path).tuning.space

    assert space["units"] == ChoicesConfig(choices=(8, 16))
    assert space["recency_half_life"] == RangeConfig(low=60, high=90)
    steps, shipped = space["steps"], load_config().tuning.space["steps"]
    assert isinstance(steps, RangeConfig)
    assert isinstance(shipped, RangeConfig)
    assert (steps.low, steps.high) == (shipped.low, 500)
