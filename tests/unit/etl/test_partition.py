"""`pricing partition` keeps series and siblings whole, draws the same sample every night, and reads as one table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from etl.partition import partition
from pricing.config_models import ScaleConfig
from pricing.data.etl_output import part_of, read_partitions, sample_of
from pricing.data.source import read_sales
from pricing.errors import SourceError

SCALE = ScaleConfig(scheduler="none", workers=1, series=40, sample=60)


def sales(products: int = 200, days: int = 6) -> pd.DataFrame:
    """Products in ten categories of unlike size, every third one a variant of the product before."""
    number = np.repeat(np.arange(products), days)
    return pd.DataFrame(
        {
            "date": np.tile(pd.date_range("2026-03-02", periods=days), products),
            "product_id": [f"{each:05}" for each in number],
            "parent_id": [f"{each - each % 3:05}" for each in number],
            "category": [f"c{each % 10 if each < 100 else 0}" for each in number],
            "units_sold": number % 7,
            "price": 2.5,
        }
    )


def ids(where: str) -> set[str]:
    return set(read_sales(where)["product_id"])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("partitions")
    sales().to_parquet(folder / "sales.parquet")
    partition(str(folder / "sales.parquet"), str(folder / "written"), scale=SCALE)
    return str(folder / "written")


def test_every_series_lies_whole_in_one_partition_beside_its_siblings(written: str) -> None:
    found = read_partitions(written)
    assert found is not None
    parts = [read_sales(part_of(written, number)) for number in range(found.count)]

    whole = sales()
    assert (found.count, found.series, found.rows, str(found.last)) == (5, 200, len(whole), "2026-03-07")
    together = pd.concat(parts).sort_values(["product_id", "date"]).reset_index(drop=True)[whole.columns]
    pd.testing.assert_frame_equal(together, whole, check_dtype=False)
    places = pd.concat([part.assign(part=number) for number, part in enumerate(parts)])
    assert (places.groupby("parent_id")["part"].nunique() == 1).all()
    assert ids(written) == set(whole["product_id"])  # a folder of Parquet like any other, without the sample


def test_the_sample_has_every_category_and_no_half_families(written: str) -> None:
    drawn = read_sales(sample_of(written))

    assert set(drawn["category"]) == set(sales()["category"])
    assert len(drawn) == 6 * drawn["product_id"].nunique()
    families = sales().groupby("parent_id")["product_id"].unique()
    taken = set(drawn["product_id"])
    kept = sales().merge(drawn[["product_id"]].drop_duplicates())
    assert all(set(families[parent]) & taken for parent in kept["parent_id"])
    assert 60 <= len(taken) < 200


def test_another_night_draws_the_same_sample_and_partitions(written: str, tmp_path: Path) -> None:
    later = sales()[lambda frame: frame["date"] >= "2026-03-05"]
    later.to_csv(tmp_path / "later.csv", index=False)

    night = str(tmp_path / "etl" / "later")
    partition(str(tmp_path / "later.csv"), night, scale=SCALE, count=5)

    assert ids(sample_of(night)) == ids(sample_of(written))
    for number in range(5):
        assert ids(part_of(night, number)) == ids(part_of(written, number))


def test_what_is_there_stays_and_no_partition_is_empty(written: str, tmp_path: Path) -> None:
    sales(products=3).to_parquet(tmp_path / "few.parquet")

    with pytest.raises(SourceError):
        partition(str(tmp_path / "few.parquet"), written, scale=SCALE)
    with pytest.raises(SourceError):
        partition(str(tmp_path / "few.parquet"), str(tmp_path / "new"), scale=SCALE, count=50)

    assert read_partitions(written) is not None
    assert read_partitions(str(tmp_path)) is None


def test_a_writing_that_was_cut_off_is_no_sales(tmp_path: Path) -> None:
    (tmp_path / "part=0").mkdir()
    (tmp_path / "part=0" / "data_0.parquet").touch()

    with pytest.raises(SourceError):
        read_partitions(str(tmp_path))
