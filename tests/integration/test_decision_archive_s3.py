"""The decision log's archive in an S3 store."""

from pathlib import Path

import boto3
import pandas as pd
import pytest
from moto.server import ThreadedMotoServer

from pricing.decision_log.format import read_decisions
from serving.compact import compact
from tests.unit.test_decision_log import entry, writer


def test_an_archive_in_s3_is_read_by_pandas_and_by_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="logs")
        client.close()
        log = writer(tmp_path / "decisions")
        log.append([entry(1), entry(2)])
        log.close()
        before = read_decisions(tmp_path / "decisions")

        assert read_decisions(tmp_path / "decisions", archive="s3://logs/shop") == before  # nothing lies there yet

        compact(tmp_path / "decisions", to="s3://logs/shop")

        assert read_decisions(tmp_path / "decisions", archive="s3://logs/shop") == before
        assert pd.read_parquet("s3://logs/shop")["decision_id"].tolist() == ["d-1", "d-2"]
    finally:
        server.stop()
