from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

import pricing.config
from pricing.config import DEFAULT_PATH, WEEKLY_PATH, Config, load_config, parse_model_config
from pricing.config_file import key_lines
from pricing.config_models import ChoicesConfig, MatchConfig, RangeConfig
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
    assert config.monitoring.alarms["sales_late"].metric == daily.monitoring.alarms["sales_late"].metric
    assert config.tuning.space["recency_half_life"] == ChoicesConfig(choices=(None, 26, 52, 104))
    assert config.decision == daily.decision


def test_the_period_alone_makes_everything_that_counts_periods_weekly(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "data: {period: week}")) == load_config("weekly")
    assert load_config(written(tmp_path, "data: {period: day}")) == load_config()


def test_every_setting_that_counts_periods_has_a_weekly_value() -> None:
    weekly = yaml.safe_load(WEEKLY_PATH.read_text())
    lines = DEFAULT_PATH.read_text().splitlines()
    counting = {
        keys
        for keys, line in key_lines("\n".join(lines)).items()
        if "periods" in lines[line - 1]
        and keys[0] in ("data", "demand")
        and keys not in {("data", "period"), ("demand", "gap")}
    }
    counting -= {("demand", "recency_half_life")}  # off

    assert len(counting) == 8
    assert sorted(keys for keys in counting if reduce(lambda part, key: part.get(key, {}), keys, weekly) == {}) == []


def test_what_the_file_gives_wins_over_what_follows_from_the_period(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "data: {period: week}\ndemand: {horizon: 6, min_history: 40}"))

    assert (config.demand.horizon, config.demand.min_history, config.demand.context) == (6, 40, 26)
    assert config.data.zero_window == 8


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


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_a_file_that_is_no_yaml_is_refused_with_the_place_of_the_fault(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: {missing: zero\nserving: {}\n")

    with pytest.raises(ConfigError, match=r"mine\.yaml: is not valid YAML: while parsing a flow mapping") as failure:
        load_config(path)

    assert "expected ',' or '}'" in str(failure.value)  # in the words of PyYAML's parser in Python


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "decision:\n  guardrails:\n    max_move: 10",
            "decision.guardrails.max_move: expected a number above 0 and at most 1, or null, found 10 (line 3)",
        ),
        (
            "decision: {guardrails: {max_move: .inf}}",
            "decision.guardrails.max_move: expected a number above 0 and at most 1, or null, found inf (line 1)",
        ),
        (
            "decision:\n  guardrails:\n    band:\n    - 0.7\n    - 20",
            "decision.guardrails.band.1: expected a number above 0 and at most 10, found 20 (line 5)",
        ),
        (
            "demand: {horizon: 4.5}",
            "demand.horizon: expected a whole number of at least 1 and at most 366, found 4.5 (line 1)",
        ),
        ("serving: {keys: always}", "serving.keys: expected one of required, local, none, found 'always' (line 1)"),
        ("data: {named_holidays: 7}", "data.named_holidays: expected true or false, found 7 (line 1)"),
        (
            "data: {quality: {leave_out: 3}}",
            "data.quality.leave_out: expected a list, each a list of 2, each a day such as 2026-07-04, "
            "found 3 (line 1)",
        ),
        (
            "decision:\n  strategies:\n    spring: {kind: margn}",
            "decision.strategies.spring.kind: expected one of margin, "
            "revenue, clearance, match, found 'margn'; the nearest is margin (line 3)",
        ),
        (
            "decision: {strategies: {clearance: {kept_value: -1}}}",
            "decision.strategies.clearance.kept_value: expected a "
            "number of at least 0 and at most 10, found -1 (line 1)",
        ),
        (
            "decision: {strategies: {margin: {ratio: 2}}}",
            "unknown key decision.strategies.margin.ratio; known there are days, kind, kept_value (line 1)",
        ),
        (
            "decision: {strategy: margni}",
            "decision: strategy 'margni' is none of strategies: clearance, margin, match, "
            "revenue; the nearest is margin (line 1)",
        ),
        (
            "data: {country: NO}",
            "data.country: expected a text of at least 2 characters, of at most 10 characters, found "
            "False. YAML reads yes, no, on and off as true or false: quote such a word, or give a number (line 1)",
        ),
        (
            "demand: {folds: yes}",
            "demand.folds: expected a whole number of at least 1 and at most 100, found True. YAML "
            "reads yes, no, on and off as true or false: quote such a word, or give a number (line 1)",
        ),
        (
            "tuning: {space: {units: {low: 8, high: 999}}}",
            "tuning: space.units: demand.units cannot be 999.0: input should be less than or equal to 256 (line 1)",
        ),
        (
            "tuning: {space: {unts: {low: 8}}}",
            "tuning.space: unts is no key of demand that may be tuned; the nearest one is units (line 1)",
        ),
        (
            "registry: {gates: {coverage_80: [0.9, 0.8]}}",
            "registry.gates: coverage_80: its low end 0.9 lies above its high end 0.8 (line 1)",
        ),
        (
            "monitoring: {endpoints: {webhook_url: 3}}",
            "monitoring.endpoints.webhook_url: expected a text, found 3 (line 1)",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_key_value_range_and_line(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)

    with pytest.raises(ConfigError) as failure:
        load_config(path)

    assert str(failure.value) == f"{path}: {said}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("decision: {max_move: 0.1}", "decision.max_move; it belongs elsewhere: decision.guardrails.max_move"),
        ("guardrails: {max_move: 0.1}", "guardrails; it belongs elsewhere: decision.guardrails"),
        ("serving: {endpoints: {}}", "serving.endpoints; it belongs elsewhere: monitoring.endpoints"),
        ("demand: {min_hystory: 9}", "demand.min_hystory; the nearest known one is min_history"),
        ("demand: {max_moves: 9}", "demand.max_moves; the nearest known one is decision.guardrails.max_move"),
        (
            "colour: red",
            "colour; known there are data, demand, decision, time_zone, etl, registry, serving, monitoring, tuning",
        ),
    ],
)
def test_the_suggestion_for_an_unknown_key_is_one_that_helps(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)

    with pytest.raises(ConfigError) as failure:
        load_config(path)

    assert str(failure.value) == f"{path}: unknown key {said} (line 1)"


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
    # Of any metric, and of what tuning tries, which demand's own limits check.
    free = ("/AlarmConfig/properties/above", "/AlarmConfig/properties/below", "/RangeConfig/", "/ChoicesConfig/")
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
        ("seed", 2**32, r"demand\.seed: expected a whole number"),
        ("horizon", None, r"demand\.horizon: is missing"),
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
