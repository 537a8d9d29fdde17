from pathlib import Path

import pytest

from pricing.config_file import key_lines, read_mapping
from pricing.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: {period: week}\ndata: {country: DE}\n", "line 2: data is given twice, first on line 1"),
        ("a:\n  move: 0.1\n  days: 3\n  move: 0.2\n", "line 4: move is given twice, first on line 2"),
        ("a: {b: 1, c: 2, b: 3}", "line 1: b is given twice, first on line 1"),
    ],
)
def test_a_key_that_is_given_twice_is_refused_with_both_lines(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError) as failure:
        read_mapping(path)

    assert str(failure.value) == f"{path}: {said}; the two may differ: keep one"


def test_the_same_key_in_two_sections_and_a_merged_one_are_given_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {x: 4}\n")

    assert read_mapping(path) == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": {"x": 4}}


def test_every_key_and_item_has_its_line() -> None:
    assert key_lines("a:\n  b: [1,\n     2]\nc: {d: 3}\n") == {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "b", 0): 2,
        ("a", "b", 1): 3,
        ("c",): 4,
        ("c", "d"): 4,
    }
