import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import pricing.config
from pricing.config import (
    DEFAULT_PATH,
    EXPERT_PATH,
    WEEKLY_PATH,
    Config,
    load_config,
    merge,
    parse_model_config,
    read_mapping,
)
from pricing.config_models import ChoicesConfig, MatchConfig, RangeConfig
from pricing.errors import ConfigError


@pytest.mark.parametrize("path", sorted(DEFAULT_PATH.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_of_the_project_is_sound(path: Path) -> None:
    config = load_config(path)

    assert config.data.list_price_window <= config.demand.checkpoint


def test_the_weekly_configuration_holds_what_differs_and_nothing_else() -> None:
    weekly, default = read_mapping(WEEKLY_PATH), merge(read_mapping(EXPERT_PATH), read_mapping(DEFAULT_PATH))
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
    assert config.tuning.space["recency_half_life"] == ChoicesConfig(choices=(None, 26, 52, 104))
    assert config.decision == daily.decision


def test_the_period_alone_makes_everything_that_counts_periods_weekly(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "data: {period: week}")) == load_config("weekly")
    assert load_config(written(tmp_path, "data: {period: day}")) == load_config()


def test_every_setting_that_counts_periods_has_a_weekly_value() -> None:
    weekly = yaml.safe_load(WEEKLY_PATH.read_text())
    text = "".join(path.read_text().partition("\ndecision:")[0] for path in (DEFAULT_PATH, EXPERT_PATH))
    counting = set(re.findall(r"^  (\w+): [^#\n]+# .*\bperiods\b", text, re.MULTILINE))
    counting -= {"period", "gap", "recency_half_life"}  # the choice itself, none, and off

    assert len(counting) == 7
    assert counting - {*weekly["data"], *weekly["demand"]} == set()


def test_what_the_file_gives_wins_over_what_follows_from_the_period(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "data: {period: week}\ndemand: {horizon: 6, min_history: 40}"))

    assert (config.demand.horizon, config.demand.min_history, config.demand.context) == (6, 40, 26)
    assert config.data.list_price_window == 8


def test_a_week_without_its_defaults_is_refused_and_not_taken_for_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pricing.config, "WEEKLY_PATH", tmp_path / "weekly.yaml")

    with pytest.raises(ConfigError, match=r"weekly\.yaml is missing, which holds the defaults of data\.period week"):
        load_config(written(tmp_path, "data: {period: week}"))
    assert load_config(written(tmp_path, "data: {period: day}")) == load_config()


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


def test_a_window_longer_than_the_kept_rows_is_refused_and_both_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: {list_price_window: 9}\ndemand: {checkpoint: 8}\n")

    with pytest.raises(ConfigError) as failure:
        load_config(path)

    said = str(failure.value)
    assert "data.list_price_window 9" in said
    assert "demand.checkpoint 8" in said
    assert len(said) < 300  # the fault, and not the whole configuration


@pytest.mark.parametrize(("key", "value"), [("missing", "guess"), ("zero_run", "0")])
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


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_a_file_that_is_no_yaml_is_refused_with_the_place_of_the_fault(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: {missing: zero\nserving: {}\n")

    with pytest.raises(ConfigError, match=r"(?s)mine\.yaml.*line 2"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "key", "found"),
    [
        ("decision:\n  guardrails:\n    max_move: 10", "decision.guardrails.max_move", "10"),
        ("decision: {guardrails: {max_move: .inf}}", "decision.guardrails.max_move", "inf"),
        ("decision:\n  guardrails:\n    band:\n    - 0.7\n    - 20", "decision.guardrails.band.1", "20"),
        ("demand: {horizon: 4.5}", "demand.horizon", "4.5"),
        ("serving: {keys: always}", "serving.keys", "always"),
        ("data: {named_holidays: 7}", "data.named_holidays", "7"),
        ("data: {quality: {leave_out: 3}}", "data.quality.leave_out", "3"),
        ("decision: {strategies: {spring: {kind: margn}}}", "decision.strategies.spring", "margin, revenue"),
        ("decision: {strategies: {clearance: {kept_value: -1}}}", "kept_value", "-1"),
        ("decision: {strategies: {margin: {ratio: 2}}}", "margin.ratio", "unknown key"),
        ("decision: {strategy: margni}", "decision", "the nearest is margin"),
        ("data: {country: NO}", "data.country", "YAML reads yes, no, on and off as true or false"),
        ("demand: {folds: yes}", "demand.folds", "YAML reads yes, no, on and off as true or false"),
        ("tuning: {space: {units: {low: 8, high: 999}}}", "demand.units", "999"),
        ("tuning: {space: {unts: {low: 8}}}", "tuning.space", "the nearest one is units"),
        ("registry: {gates: {coverage_80: [0.9, 0.8]}}", "registry.gates", "coverage_80"),
        ("monitoring: {endpoints: {webhook_url: 3}}", "monitoring.endpoints.webhook_url", "3"),
        ("data: {period: week}\ndata: {country: DE}\n", "data", "given twice"),
        ("decision: {max_move: 0.1}", "decision.max_move", "decision.guardrails.max_move?"),
        ("guardrails: {max_move: 0.1}", "guardrails", "decision.guardrails?"),
        ("serving: {endpoints: {}}", "serving.endpoints", "monitoring.endpoints?"),
        ("demand: {min_hystory: 9}", "demand.min_hystory", "demand.min_history?"),
    ],
)
def test_a_wrong_key_or_value_is_refused_by_name(tmp_path: Path, text: str, key: str, found: str) -> None:
    path = written(tmp_path, text)

    with pytest.raises(ConfigError) as failure:
        load_config(path)

    assert str(path) in str(failure.value)
    assert key in str(failure.value)
    assert found in str(failure.value)


@pytest.mark.parametrize("value", ["'postgresql://shop:hunter22@db/shop'", "['https://shop:hunter22@db/shop']"])
def test_a_password_in_a_value_is_not_repeated(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=r"serving\.keys") as failure:
        load_config(written(tmp_path, f"serving: {{keys: {value}}}"))

    assert "hunter22" not in str(failure.value)


def test_another_kind_of_strategy_under_a_default_name_takes_none_of_the_former_parameters(tmp_path: Path) -> None:
    strategies = load_config(written(tmp_path, "decision: {strategies: {margin: {kind: match, ratio: 0.9}}}")).decision

    assert strategies.strategies["margin"] == MatchConfig(kind="match", ratio=0.9)
    assert strategies.strategies["clearance"] == load_config().decision.strategies["clearance"]


def numbers(schema: Any, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of a JSON schema that describes a number, by its place."""
    if isinstance(schema, dict):
        if schema.get("type") in ("number", "integer"):
            yield at, schema
        for name, part in schema.items():
            yield from numbers(part, f"{at}/{name}")
    elif isinstance(schema, list):
        for part in schema:
            yield from numbers(part, at)


def test_every_number_has_limits() -> None:
    found = dict(numbers(Config.model_json_schema()["$defs"]))
    # What tuning tries, which demand's own limits check.
    free = ("/RangeConfig/", "/ChoicesConfig/")
    # Pairs whose order and ends the section itself checks.
    paired = ("/DecisionConfig/properties/calibration",)

    def bounded(part: dict[str, Any]) -> bool:
        return bool({"minimum", "exclusiveMinimum"} & part.keys() and {"maximum", "exclusiveMaximum"} & part.keys())

    open_ended = [at for at, part in found.items() if not bounded(part) and not at.startswith((*free, *paired))]
    assert open_ended == []
    assert len(found) > 90


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("colour", 1, r"unknown key demand\.colour"),
        ("seed", 2**32, r"demand\.seed"),
        ("horizon", None, r"demand\.horizon"),
    ],
)
def test_a_version_of_other_settings_is_refused_by_the_key(key: str, value: int | None, said: str) -> None:
    values = load_config().model_dump(mode="json", include={"data", "demand", "decision"})
    demand = {**values["demand"], key: value}
    if value is None:
        del demand[key]

    assert parse_model_config(values, where="version/config.json").demand == load_config().demand
    with pytest.raises(ConfigError, match=rf"version/config\.json: {said}"):
        parse_model_config({**values, "demand": demand}, where="version/config.json")


@pytest.mark.parametrize("key", ["registry: {keep_days: 40}", "serving: {log_days: 55}"])
def test_nothing_is_deleted_that_monitoring_still_looks_at(tmp_path: Path, key: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(key)

    with pytest.raises(ConfigError, match="is less than the 56 days that monitoring looks back"):
        load_config(path)
