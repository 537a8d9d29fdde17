"""A retailer's files are read from a real S3 store: one, a folder, a pattern."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pricing.config_sources import OrderLines
from pricing.errors import SourceError
from pricing.sources.reading import Reading, read_chunks
from tests.kit.servers import object_store

HEADER = "time,product_id,quantity\n"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("s3")
    with object_store(folder / "server", bucket="shop") as found:
        client: Any = boto3.client(
            "s3",
            endpoint_url=found["AWS_ENDPOINT_URL"],
            aws_access_key_id="any",
            aws_secret_access_key="any",
            region_name="us-east-1",
        )
        client.put_object(Bucket="shop", Key="in/2024/a.csv", Body=(HEADER + "2024-01-01,A,1\n").encode())
        client.put_object(
            Bucket="shop", Key="in/2025/b.csv.gz", Body=gzip.compress(f"{HEADER}2025-01-01,B,1\n".encode())
        )
        table = pa.table({"time": ["2026-01-01"], "product_id": ["C"], "quantity": [1]})
        pq.write_table(table, folder / "c.parquet")
        client.put_object(Bucket="shop", Key="in/2026/c.parquet", Body=Path(folder / "c.parquet").read_bytes())
        client.put_object(Bucket="shop", Key="cut/a.csv.gz", Body=gzip.compress(b"x" * 1000)[:-9])
        client.close()
        yield found


def reading_of(location: str, environment: dict[str, str]) -> Reading:
    source = OrderLines.model_validate({"kind": "order_lines", "location": location})
    return read_chunks(source, name="sales", zone=ZoneInfo("UTC"), sql_seconds=60.0, environment=environment)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("s3://shop/in/2024/a.csv", "A"),
        ("s3://shop/in", "ABC"),
        ("s3://shop/in/202[45]/*", "AB"),
        ("s3://shop/in/**/*.parquet", "C"),
        ("s3://${BUCKET}/in/*/?.csv.gz", "B"),
    ],
)
def test_files_on_s3_are_found_as_local_ones_are(environment: dict[str, str], location: str, expected: str) -> None:
    reading = reading_of(location, environment | {"BUCKET": "shop"})

    found = "".join(product for chunk in reading for product in chunk.frame["product_id"])

    assert found == expected
    assert all(origin.where.startswith("s3://shop/in/") for origin in reading.origins)
    assert all(len(origin.sha256) == 64 and origin.size for origin in reading.origins)
    assert all(origin.etag for origin in reading.origins)


@pytest.mark.parametrize(
    "location", ["s3://shop/nowhere.csv", "s3://shop/in/*.csv", "s3://nobody/a.csv", "s3://shop/cut"]
)
def test_what_is_not_on_s3_or_is_cut_off_is_named(environment: dict[str, str], location: str) -> None:
    with pytest.raises(SourceError, match="s3://"):
        list(reading_of(location, environment))
