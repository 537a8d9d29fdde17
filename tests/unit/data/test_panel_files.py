"""A saved panel is whole or absent, and comes back as it was."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.panel import Event, Panel, load_panel, save_panel
from pricing.errors import SourceError


@pytest.fixture
def panel() -> Panel:
    frame = pd.DataFrame(
        {
            "date": pd.to_datetime(["2024-03-01", "2024-03-03", "2024-03-02"]),
            "product_id": ["A", "A", "ß"],
            "units_sold": 1.0,
            "price": 2.0,
            "parent_id": ["tea", "tea", "ß"],
        }
    )
    events = (Event("Fair", np.datetime64("2024-03-02"), np.datetime64("2024-03-04"), "b", overlay=True),)
    return dataclasses.replace(build_panel(frame, load_config().data), events=events)


def test_a_saved_panel_comes_back_as_it_was(panel: Panel, tmp_path: Path) -> None:
    save_panel(panel, tmp_path / "deep" / "panel")

    again = load_panel(tmp_path / "deep" / "panel")

    for field in dataclasses.fields(Panel):
        assert_array_equal(getattr(again, field.name), getattr(panel, field.name))


def test_a_saved_panel_replaces_the_one_before_once_it_is_whole(panel: Panel, tmp_path: Path) -> None:
    save_panel(panel, tmp_path / "panel")
    shorter = panel.through(np.datetime64("2024-03-02"))

    with pytest.raises(ValueError, match="Object arrays"):
        save_panel(dataclasses.replace(shorter, price=np.array([object()])), tmp_path / "panel")  # type: ignore[arg-type]
    assert len(load_panel(tmp_path / "panel").dates) == 3

    save_panel(shorter, tmp_path / "panel")
    assert len(load_panel(tmp_path / "panel").dates) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["panel"]


def test_saving_never_replaces_what_is_no_panel(panel: Panel, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")

    with pytest.raises(SourceError, match="holds something that is no panel"):
        save_panel(panel, tmp_path / "photos")

    assert (tmp_path / "photos" / "cat.jpg").read_text() == "meow"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("price.npy", b"\x93NUMPY"),
        ("panel.json", b"{"),
        ("parent_ids.npy", None),
        ("panel.json", None),
        ("panel.json", {"contract": 99}),
    ],
)
def test_a_panel_that_is_damaged_or_of_another_format_is_refused(
    panel: Panel, tmp_path: Path, name: str, content: bytes | dict[str, int] | None
) -> None:
    save_panel(panel, tmp_path)
    path = tmp_path / name
    if isinstance(content, dict):
        content = json.dumps(json.loads(path.read_text()) | content).encode()
    path.unlink() if content is None else path.write_bytes(content)

    with pytest.raises(SourceError):
        load_panel(tmp_path)
