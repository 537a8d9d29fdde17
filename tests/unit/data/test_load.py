"""The one door to sales: which source, what is set aside, and nothing half-done."""

from pathlib import Path

import pandas as pd
import pytest

from pricing.config import load_config
from pricing.data.load import load_panel_from
from pricing.errors import ContractError, SourceError

CONFIG = load_config().data
GOOD = "date,product_id,units_sold,price\n2024-01-01,A,2,3.5\n2024-01-02,A,1,3.0\n"


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", ["simulated", ""])
def test_sales_without_a_name_and_a_market_that_is_not_there_are_refused(name: str) -> None:
    with pytest.raises(SourceError):
        load_panel_from(name, CONFIG)


def test_bad_rows_stop_the_load_unless_they_can_be_set_aside(tmp_path: Path) -> None:
    sales = write(tmp_path / "sales.csv", GOOD + "2024-01-03,A,-1,0\n2024-01-04,A,1,\n")

    with pytest.raises(ContractError) as caught:
        load_panel_from(sales, CONFIG)
    panel = load_panel_from(sales, CONFIG, quarantine=tmp_path / "bad" / "rows")

    assert [fault.count for fault in caught.value.violations] == [1, 1, 1]
    assert panel.present.sum() == 2
    assert "2 bad rows" in panel.notes[0]
    aside = pd.read_csv(tmp_path / "bad" / "rows" / "bad_rows.csv")
    assert aside["row"].tolist() == [3, 4]
    assert aside["reasons"].str.count(";").tolist() == [1, 0]
    with pytest.raises(ContractError, match="price"):
        load_panel_from(write(tmp_path / "twice.csv", GOOD.replace(",price", ",price,price")), CONFIG)


def test_a_moment_of_a_file_is_of_the_day_in_the_shops_zone(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("time_zone: Europe/London\n")
    sales = write(
        tmp_path / "sales.csv",
        "date,product_id,units_sold,price\n2025-10-01T00:00:00+01:00,A,2,3.5\n2025-10-01T23:00:00Z,A,1,3.0\n",
    )

    panel = load_panel_from(sales, load_config(tmp_path / "shop.yaml").data)

    assert panel.dates.astype(str).tolist() == ["2025-10-01", "2025-10-02"]
