import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pricing.config import (
    DEFAULT_PATH,
    EXPERT_PATH,
    WEEKLY_PATH,
    Config,
    load_config,
    parse_model_config,
)
from pricing.config_models import MatchConfig
from pricing.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_the_period_alone_makes_everything_that_counts_periods_weekly(tmp_path: Path) -> None:
    weekly, daily = load_config("weekly"), load_config()

    assert load_config(written(tmp_path, "data: {period: week}")) == weekly
    assert load_config(written(tmp_path, "data: {period: day}")) == daily
    assert 7 * weekly.demand.horizon == daily.demand.horizon
    assert weekly.decision == daily.decision


def test_every_setting_that_counts_periods_has_a_weekly_value() -> None:
    weekly = yaml.safe_load(WEEKLY_PATH.read_text())
    text = "".join(path.read_text().partition("\ndecision:")[0] for path in (DEFAULT_PATH, EXPERT_PATH))
    counting = set(re.findall(r"^  (\w+): [^#\n]+# .*\bperiods\b", text, re.MULTILINE))
    counting -= {"period"}  # the choice itself

    assert len(counting) == 7
    assert counting - {*weekly["data"], *weekly["demand"]} == set()


def test_what_the_file_gives_wins_over_what_follows_from_the_period(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "data: {period: week}\ndemand: {horizon: 6, min_history: 40}"))

    assert (config.demand.horizon, config.demand.min_history, config.demand.context) == (6, 40, 26)
    assert config.data.list_price_window == 8 <= config.demand.checkpoint


def test_a_file_of_the_user_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weekly").write_text("demand: {seed: 11}")

    config = load_config("weekly")

    assert (config.demand.seed, config.data.period) == (11, "day")
    with pytest.raises(ConfigError, match="weakly"):
        load_config("weakly")


@pytest.mark.parametrize(
    ("text", "key", "found"),
    [
        ("data: {missing: zero\nserving: {}\n", "mine.yaml", "line 2"),
        ("data: {list_price_window: 9}\ndemand: {checkpoint: 8}\n", "data.list_price_window 9", "demand.checkpoint 8"),
        ("decision: {guardrails: {max_move: .inf}}", "decision.guardrails.max_move", "inf"),
        ("decision:\n  guardrails:\n    band:\n    - 0.7\n    - 20", "decision.guardrails.band.1", "20"),
        ("demand: {horizon: 4.5}", "demand.horizon", "4.5"),
        ("decision: {strategies: {spring: {kind: margn}}}", "decision.strategies.spring", "clearance"),
        ("decision: {strategies: {margin: {ratio: 2}}}", "margin.ratio", "unknown key"),
        ("decision: {strategy: margni}", "decision", "the nearest is margin"),
        ("data: {country: NO}", "data.country", "YAML reads"),
        ("data: {margin: {no: 0.3}}", "False", "quote"),
        ("data: {2024-01-01: x}", "2024", "quote"),
        ("registry: {gates: {coverage_80: [0.9, 0.8]}}", "registry.gates", "coverage_80"),
        ("data: {period: week}\ndata: {country: DE}\n", "data", "given twice"),
        ("decision: {max_move: 0.1}", "decision.max_move", "decision.guardrails.max_move?"),
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


def test_a_password_in_a_value_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"serving\.keys") as failure:
        load_config(written(tmp_path, "serving: {keys: ['https://shop:hunter22@db/shop']}"))

    assert "hunter22" not in str(failure.value)


def test_another_kind_of_strategy_under_a_default_name_takes_none_of_the_former_parameters(tmp_path: Path) -> None:
    strategies = load_config(written(tmp_path, "decision: {strategies: {margin: {kind: match, ratio: 0.9}}}")).decision

    assert strategies.strategies["margin"] == MatchConfig(kind="match", ratio=0.9)
    assert strategies.strategies["clearance"] == load_config().decision.strategies["clearance"]


def numbers(schema: Any, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of a JSON schema that describes a number, by its place."""
    if isinstance(schema, dict) and schema.get("type") in ("number", "integer"):
        yield at, schema
    parts = schema.items() if isinstance(schema, dict) else enumerate(schema) if isinstance(schema, list) else ()
    for name, part in parts:
        yield from numbers(part, f"{at}/{name}")


def test_every_number_has_limits() -> None:
    found = dict(numbers(Config.model_json_schema()["$defs"]))
    ends = ({"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"})

    assert [at for at, part in found.items() if not all(end & part.keys() for end in ends)] == []
    assert len(found) > 80


@pytest.mark.parametrize(("key", "value"), [("colour", 1), ("seed", 2**32), ("horizon", None)])
def test_a_version_of_other_settings_is_refused_by_the_key(key: str, value: int | None) -> None:
    values = load_config().model_dump(mode="json", include={"data", "demand", "decision"})
    demand = {**values["demand"], key: value}
    if value is None:
        del demand[key]

    assert parse_model_config(values, where="version/config.json").demand == load_config().demand
    with pytest.raises(ConfigError, match=rf"version/config\.json: .*demand\.{key}"):
        parse_model_config({**values, "demand": demand}, where="version/config.json")


@pytest.mark.parametrize("key", ["registry: {keep_days: 40}", "serving: {log_days: 55}"])
def test_nothing_is_deleted_that_monitoring_still_looks_at(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match="56 days"):
        load_config(written(tmp_path, key))
