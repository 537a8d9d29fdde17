import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from pricing.config import DEFAULT_PATH, FORMER, Config, load_config, parse_config, parse_model_config
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


def test_a_bare_name_is_that_of_a_configuration_beside_the_default_one() -> None:
    assert load_config("weekly") == load_config(DEFAULT_PATH.parent / "weekly.yaml")


def test_a_file_of_the_user_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weekly").write_text("demand: {seed: 11}")

    config = load_config("weekly")

    assert (config.demand.seed, config.data.period) == (11, "day")


@pytest.mark.parametrize("name", ["weakly", "config/weekly", "weekly.yml"])
def test_what_is_neither_a_file_nor_a_name_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match=f"{name}: cannot be read"):
        load_config(name)


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


def is_known(path: str) -> bool:
    """Whether the configuration has a key or section at a path such as "data.period"."""
    section: Any = Config
    for name in path.split("."):
        if not (isinstance(section, type) and issubclass(section, BaseModel) and name in section.model_fields):
            return False
        section = section.model_fields[name].annotation
    return True


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


# A key renamed within its section, one moved to another, a section that went, a key moved to another level.
RENAMED = {
    "data.grain": "data.period",
    "decision.look_ahead": "demand.horizon",
    "watching": "monitoring",
    "serving.api.limit": "serving.batch_limit",
}


def test_former_names_lead_to_names_that_are_known_and_are_not_known_themselves() -> None:
    assert [is_known("data.period"), is_known("monitoring"), is_known("data.grain")] == [True, True, False]
    assert [new for new in FORMER.values() if not is_known(new)] == []
    assert [old for old in FORMER if is_known(old)] == []


def test_a_former_key_counts_and_a_warning_names_the_present_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(
        tmp_path,
        "data: {grain: week}\ndecision: {look_ahead: 9}\nwatching: {window: 5}\nserving: {api: {limit: 77}}\n",
    )

    config = load_config(path, former=RENAMED)

    assert (config.data.period, config.demand.horizon, config.serving.batch_limit) == ("week", 9, 77)
    assert config.monitoring == load_config().monitoring.model_copy(update={"window": 5})
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"{path}: {old} is named {new} now; the former name is still read, but rename it")
        for old, new in RENAMED.items()
    ]


def test_present_names_are_taken_as_they_are_and_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, "data: {period: week}\nmonitoring: {window: 5}\n")

    assert load_config(path, former=RENAMED) == load_config(path)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("data: {grain: week, period: week}", r"data\.grain", r"data\.period"),
        ("decision: {look_ahead: 9}\ndemand: {horizon: 9}", r"decision\.look_ahead", r"demand\.horizon"),
        ("watching: {window: 5}\nmonitoring: {min_rows: 5}", "watching", "monitoring"),
    ],
)
def test_a_key_that_is_given_by_both_names_is_refused_and_both_are_named(
    tmp_path: Path, text: str, old: str, new: str
) -> None:
    path = written(tmp_path, text)

    with pytest.raises(
        ConfigError, match=rf"mine\.yaml: gives both {old} and {new}, which is its name now; take {old}"
    ):
        load_config(path, former=RENAMED)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {grian: week}", r"unknown key data\.grian; the nearest known one is"),
        ("data: {grain: month}", r"data\.period: .*found 'month'"),
        ("decision: {look_ahead: 9}\ndemand: 3", r"demand: .*found 3"),
        ("watching: 3", r"monitoring: .*found 3"),
        ("serving: {api: {limit: 77, colour: red}}", r"unknown key serving\.api"),
    ],
)
def test_what_is_wrong_beside_a_former_name_is_refused_as_ever(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(written(tmp_path, text), former=RENAMED)


def test_a_version_that_carries_former_keys_is_read_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    values = load_config().model_dump(mode="json", include={"data", "demand", "decision"})
    values["data"]["grain"] = values["data"].pop("period")
    del values["demand"]["horizon"]
    values["decision"]["look_ahead"] = 9
    before = copy.deepcopy(values)

    with caplog.at_level(logging.INFO):
        config = parse_model_config(values, where="version/config.json", former=RENAMED)

    assert (config.data.period, config.demand.horizon) == ("day", 9)
    assert caplog.records == []
    assert values == before


def test_a_whole_configuration_is_read_by_its_former_keys() -> None:
    values = load_config().model_dump(mode="json")
    values["watching"] = values.pop("monitoring")

    assert parse_config(values, where="here", former=RENAMED) == load_config()


def test_a_file_that_is_no_yaml_is_refused_with_the_place_of_the_fault(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: {missing: zero\nserving: {}\n")

    with pytest.raises(ConfigError, match=r"mine\.yaml: is not valid YAML: while parsing a flow mapping") as failure:
        load_config(path)

    assert "expected ',' or '}'" in str(failure.value)  # in the words of PyYAML's parser in Python
