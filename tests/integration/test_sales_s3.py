"""Sales are read from an S3 store over HTTP, by the usual AWS_ variables."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pandas as pd
import pytest
from moto.server import ThreadedMotoServer

from pricing.data.source import read_sales
from pricing.errors import SourceError


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    frame = pd.DataFrame(
        {"date": ["2024-01-01", "2024-01-02"], "product_id": ["A", "B"], "units_sold": [1, 2], "price": [2.0, 3.0]}
    )
    frame.to_csv(tmp_path / "sales.csv", index=False)
    frame.to_parquet(tmp_path / "sales.parquet")
    client = boto3.client("s3")
    client.create_bucket(Bucket="shop")
    for name, key in (("sales.csv", "in/sales.csv"), ("sales.parquet", "in/sales.parquet")):
        client.upload_file(str(tmp_path / name), "shop", key)
    for part in (1, 2):
        client.upload_file(str(tmp_path / "sales.parquet"), "shop", f"parts/year=2024/{part}.parquet")
    client.close()
    return "s3://shop"


@pytest.mark.parametrize("name", ["in/sales.csv", "in/sales.parquet", "parts/"])
def test_files_and_folders_on_s3_are_read(bucket: str, name: str) -> None:
    assert set(read_sales(f"{bucket}/{name}")["product_id"]) == {"A", "B"}


def test_what_is_not_on_s3_is_named(bucket: str) -> None:
    for where in (f"{bucket}/in/nowhere.csv", "s3://nobody/sales.csv"):
        with pytest.raises(SourceError, match=f"{where}: "):
            read_sales(where)
