"""The shop that `pricing demo` opens is read by this code; where a format changes, `make shipped` makes it again."""

import shutil
from pathlib import Path

import pytest

from console.shop import Shop
from pricing.config import read_config_file
from pricing.runtime.demo import SHIPPED


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.unpack_archive(SHIPPED, tmp_path)
    return tmp_path


def test_the_shipped_shop_is_whole_small_and_says_that_it_is_simulated(home: Path) -> None:
    file = read_config_file(home / "shop.yaml")
    shop = Shop(file, {"PRICING_HOME": str(home), "PRICING_PUBLISHED": str(home / "published")}, home=home)

    shop.look()

    assert shop.trouble == {}
    assert shop.simulated
    assert shop.table is not None
    assert shop.panel is not None
    assert (len(shop.table.rows), shop.panel.units_sold.shape) == (60, (60, 52 * 7))
    assert SHIPPED.stat().st_size < 3_000_000
    assert not [path for path in home.rglob("*.json") if f"{Path.home()}/" in path.read_text(encoding="utf-8")]
