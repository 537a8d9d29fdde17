from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pricing.config import DEFAULT_PATH, load_config
from pricing.config_models import ChoicesConfig, RangeConfig
from pricing.errors import ConfigError


@pytest.mark.parametrize("path", sorted(DEFAULT_PATH.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_of_the_project_is_sound(path: Path) -> None:
    config = load_config(path)

    assert max(config.data.list_price_window, config.data.zero_window) <= config.demand.checkpoint


def test_the_weekly_configuration_holds_what_differs_and_nothing_else() -> None:
    weekly, default = (
        yaml.safe_load((DEFAULT_PATH.parent / name).read_text()) for name in ("weekly.yaml", DEFAULT_PATH)
    )
    config, daily = load_config(DEFAULT_PATH.parent / "weekly.yaml"), load_config()

    def leaves(values: Any, beside: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
        for key, value in values.items():
            if isinstance(value, dict):
                yield from leaves(value, beside[key], f"{at}{key}.")
            else:
                yield f"{at}{key}", value, beside[key]

    assert [key for key, value, before in leaves(weekly, default) if value == before] == []
    assert config.data.period == "week"
    assert 7 * config.demand.horizon == daily.demand.horizon
    assert min(config.monitoring.maturities) == 7
    assert config.monitoring.alarms["sales_late"].metric == daily.monitoring.alarms["sales_late"].metric
    assert config.tuning.space["recency_half_life"] == ChoicesConfig(choices=(None, 26, 52, 104))
    assert config.decision == daily.decision


@pytest.mark.parametrize(
    ("window", "other"), [("list_price_window", "zero_window"), ("zero_window", "list_price_window")]
)
def test_a_window_longer_than_the_kept_rows_is_refused_and_both_are_named(
    tmp_path: Path, window: str, other: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"data: {{{window}: 9, {other}: 8}}\ndemand: {{checkpoint: 8}}\n")

    with pytest.raises(ConfigError) as failure:
        load_config(path)

    said = str(failure.value)
    assert f"data.{window} 9" in said
    assert "demand.checkpoint 8" in said
    assert len(said) < 300  # the fault, and not the whole configuration


@pytest.mark.parametrize(("key", "value"), [("missing", "guess"), ("zero_run", "0"), ("zero_window", "0")])
def test_what_absent_rows_mean_is_one_of_the_settings_there_are(tmp_path: Path, key: str, value: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"data: {{{key}: {value}}}")

    with pytest.raises(ConfigError, match=rf"data\.{key}"):
        load_config(path)


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


@pytest.mark.parametrize("limits", ["[-0.2, -20]", "[-20, 0.1]", "[-1.5, -0.2]"])
def test_limits_of_elasticities_ascend_below_zero_around_the_start(tmp_path: Path, limits: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"demand: {{elasticity_limits: {limits}}}\n")

    with pytest.raises(ConfigError, match=r"demand: elasticity_limits .* must ascend, end below 0") as failure:
        load_config(path)

    assert len(str(failure.value)) < 300  # the fault, and not the whole section


def test_a_file_that_is_no_yaml_is_refused_with_the_place_of_the_fault(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: {missing: zero\nserving: {}\n")

    with pytest.raises(ConfigError, match=r"mine\.yaml: is not valid YAML: while parsing a flow mapping") as failure:
        load_config(path)

    assert "expected ',' or '}'" in str(failure.value)  # in the words of PyYAML's parser in Python
