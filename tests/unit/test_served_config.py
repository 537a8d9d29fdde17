from pathlib import Path
from typing import Any

from pricing.config import (
    ConfigFile,
    ModelConfig,
    load_config,
    parse_model_config,
    read_config_file,
    served_config,
)


def packed(**guardrails: Any) -> ModelConfig:
    """What a version carries that was trained with guardrails of its own."""
    values = load_config().model_dump(mode="json", include={"data", "demand", "decision"})
    values["decision"]["guardrails"] |= guardrails
    return parse_model_config(values, where="version/config.json")


def given(folder: Path, text: str) -> ConfigFile:
    path = folder / "mine.yaml"
    path.write_text(text)
    return read_config_file(path)


def test_without_a_file_or_by_one_of_other_sections_a_version_is_served_as_it_was_trained(tmp_path: Path) -> None:
    own = packed(max_move=0.05)

    for file in (read_config_file(), given(tmp_path, "serving: {threads: 4}")):
        served = served_config(own, file, name="3")

        assert (served.config, served.replaced, served.ignored) == (own, {}, {})


def test_what_the_file_leaves_out_of_decision_stays_the_versions_own(tmp_path: Path) -> None:
    own = packed(max_move=0.05, min_margin=0.2)

    served = served_config(own, given(tmp_path, "decision: {guardrails: {band: [0.9, 1.1]}}"), name="3")

    assert served.config.decision.guardrails == own.decision.guardrails.model_copy(update={"band": (0.9, 1.1)})
    assert served.replaced == {"decision.guardrails.band": {"version": [0.7, 1.35], "file": [0.9, 1.1]}}


def test_what_a_version_was_trained_with_stays_and_what_the_file_says_of_it_is_told(tmp_path: Path) -> None:
    file = given(tmp_path, "data: {country: DE, margin: {toys: 0.4}}\ndemand: {horizon: 14, folds: 3}")

    served = served_config(packed(), file, name="3")

    assert served.config == packed()
    assert served.ignored == {
        "data.country": {"version": "US", "file": "DE"},
        "data.margin.toys": {"version": None, "file": 0.4},
        "demand.horizon": {"version": 28, "file": 14},
    }
