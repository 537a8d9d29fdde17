"""A saved panel is whole or absent, and comes back as it was."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.panel import CONTRACT_VERSION, FORMAT, Panel, load_panel, save_panel
from pricing.errors import SourceError


@pytest.fixture
def panel() -> Panel:
    frame = pd.DataFrame(
        {
            "date": pd.to_datetime(["2024-03-01", "2024-03-03", "2024-03-02"]),
            "product_id": ["A", "A", "ß"],
            "units_sold": 1.0,
            "price": 2.0,
        }
    )
    return build_panel(frame, load_config().data)


def test_a_saved_panel_comes_back_as_it_was(panel: Panel, tmp_path: Path) -> None:
    save_panel(panel, tmp_path / "deep" / "panel")

    again = load_panel(tmp_path / "deep" / "panel")

    for field in dataclasses.fields(Panel):
        assert_array_equal(getattr(again, field.name), getattr(panel, field.name))


def test_a_saved_panel_replaces_the_one_before_and_leaves_nothing_else(panel: Panel, tmp_path: Path) -> None:
    save_panel(panel, tmp_path / "panel")
    save_panel(panel.through(np.datetime64("2024-03-02")), tmp_path / "panel")

    assert len(load_panel(tmp_path / "panel").dates) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["panel"]


def test_saving_never_replaces_what_is_no_panel(panel: Panel, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")

    with pytest.raises(SourceError, match="holds something that is no panel"):
        save_panel(panel, tmp_path / "photos")

    assert (tmp_path / "photos" / "cat.jpg").read_text() == "meow"


def test_an_interrupted_save_leaves_the_old_panel(panel: Panel, tmp_path: Path) -> None:
    save_panel(panel, tmp_path / "panel")
    broken = dataclasses.replace(panel.through(np.datetime64("2024-03-02")), price=np.array([object()]))  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="Object arrays"):
        save_panel(broken, tmp_path / "panel")

    assert len(load_panel(tmp_path / "panel").dates) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["panel"]


def test_a_place_that_cannot_be_written_is_named(panel: Panel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SourceError, match="cannot be written"):
        save_panel(panel, tmp_path / "file" / "panel")


def test_a_folder_without_a_panel_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"is no saved panel \(.*panel.json is missing\)"):
        load_panel(tmp_path)


def test_a_damaged_panel_is_refused(panel: Panel, tmp_path: Path) -> None:
    save_panel(panel, tmp_path / "panel")

    def damaged(name: str, content: bytes) -> Path:
        copy = tmp_path / name
        shutil.copytree(tmp_path / "panel", copy)
        (copy / name).write_bytes(content)
        return copy

    for copy in (damaged("price.npy", b"\x93NUMPY"), damaged("panel.json", b"{"), damaged("stock.npy", b"")):
        with pytest.raises(SourceError, match="is a damaged panel"):
            load_panel(copy)
    np.save(tmp_path / "panel" / "price.npy", np.zeros((1, 1), np.float32))
    with pytest.raises(SourceError, match=r"price has shape \(1, 1\), expected \(2, 3\)"):
        load_panel(tmp_path / "panel")


@pytest.mark.parametrize(("what", "known"), [("format", FORMAT), ("contract", CONTRACT_VERSION)])
def test_a_panel_of_another_format_or_contract_is_refused_by_name(
    panel: Panel, tmp_path: Path, what: str, known: int
) -> None:
    save_panel(panel, tmp_path / "panel")
    header = tmp_path / "panel" / "panel.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | {what: 99}))

    with pytest.raises(SourceError, match=f"is a panel of {what} 99, expected {known}; run etl again"):
        load_panel(tmp_path / "panel")


def test_arrays_of_a_loaded_panel_cannot_be_changed_by_accident(panel: Panel, tmp_path: Path) -> None:
    save_panel(panel, tmp_path / "panel")

    with pytest.raises(ValueError, match="read-only"):
        load_panel(tmp_path / "panel").price[0, 0] = 1
