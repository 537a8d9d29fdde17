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
        ("stock.npy", b""),
        ("parent_ids.npy", None),
        ("panel.json", None),
    ],
)
def test_a_damaged_panel_is_refused(panel: Panel, tmp_path: Path, name: str, content: bytes | None) -> None:
    save_panel(panel, tmp_path)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)

    with pytest.raises(SourceError):
        load_panel(tmp_path)


def test_arrays_of_other_shapes_are_refused(panel: Panel, tmp_path: Path) -> None:
    save_panel(panel, tmp_path)
    np.save(tmp_path / "price.npy", np.zeros((1, 1), np.float32))

    with pytest.raises(SourceError, match=r"price has shape \(1, 1\), expected \(2, 3\)"):
        load_panel(tmp_path)


@pytest.mark.parametrize("what", ["format", "contract"])
def test_a_panel_of_another_format_or_contract_is_refused(panel: Panel, tmp_path: Path, what: str) -> None:
    save_panel(panel, tmp_path / "panel")
    header = tmp_path / "panel" / "panel.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | {what: 99}))

    with pytest.raises(SourceError, match="run etl again"):
        load_panel(tmp_path / "panel")
