"""What needs no CDK: the file of environments, the programs that run before others in a task."""

import base64
import configparser
import hashlib
import hmac
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from mlflow import MlflowClient
from sqlalchemy.engine import URL, make_url

from deploy import database_setup, mlflow_server
from deploy.environment import FILE, DeploymentError, read_environments
from tests.kit.servers import postgres

ROOT = Path(__file__).parents[2]
PASSWORDS = {"mlflow": "m'1%@:/", "pricing": "p;2"}


def changed(tmp_path: Path, environment: str, path: str, value: object) -> Path:
    """A copy of the file of environments with another value."""
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    place = content[environment]
    *above, last = path.split(".")
    for key in above:
        place = place[key]
    place[last] = value
    file = tmp_path / "environments.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("serving.size.cpu", 300, r"staging\.serving\.size\.cpu"),
        ("serving.leest", 1, r"staging\.serving\.leest: Extra inputs"),
        ("network.callers", [], r"staging\.network\.callers"),
        ("nightly.at", "30 4 * * *", r"staging\.nightly\.at"),
        ("watch.log_days", 31, r"staging\.watch\.log_days"),
        ("images", {"serving": f"sha256:{'0' * 64}"}, r"staging\.images: Extra inputs"),
        ("domain", "https://prices", r"staging\.domain"),
        ("qualifier", "pricingstage", r"staging\.qualifier: .*pattern"),
        ("qualifier", "hnb659fds", r"staging\.qualifier: .*CDK's own"),
        ("qualifier", "pricingprd", "expected a qualifier of its own for each environment"),
        ("jobs.promote.memory", 4096, r"staging\.jobs: .*expected 8192"),
        ("jobs", {"train": {"cpu": 256, "memory": 512}}, r"staging\.jobs\.nightly: Field required"),
    ],
)
def test_a_value_that_cannot_be_deployed_is_refused_with_its_place(
    tmp_path: Path, path: str, value: object, complaint: str
) -> None:
    with pytest.raises(DeploymentError, match=complaint):
        read_environments(changed(tmp_path, "staging", path, value))


@pytest.mark.parametrize("text", ["", "- a list", "staging: 3", "a: [", "staging: {}"])
def test_a_file_without_environments_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "environments.yaml"
    file.write_text(text)

    with pytest.raises(DeploymentError, match=str(file)):
        read_environments(file)


@pytest.mark.parametrize("words", ["serving", f"ghost=sha256:{'0' * 64}", "serving=2.1.0", "serving=sha256:1"])
def test_an_image_that_no_digest_names_is_refused(words: str) -> None:
    with pytest.raises(DeploymentError, match=r"staging\.IMAGES"):
        read_environments(images=words)


def test_tasks_follow_from_the_peak_and_what_one_of_them_answers() -> None:
    part = read_environments()["production"].serving.model_copy(update={"peak": 5000, "saturation": 200, "floor": 2})

    assert (part.least, part.most, part.tasks(1)) == (5, 50, 2)


# What prepares the database, against a real PostgreSQL


@pytest.fixture(scope="module")
def master() -> Iterator[dict[str, str]]:
    """Connection of a role that is no superuser but may make databases and roles, as RDS's master."""
    with postgres() as address:
        url = make_url(address)
        owner = {"host": str(url.query.get("host") or url.host), "user": str(url.username)}
        run("CREATE ROLE master LOGIN CREATEDB CREATEROLE PASSWORD 'x'", dbname="postgres", **owner)
        run("ALTER ROLE master SET log_statement = 'ddl'", dbname="postgres", **owner)  # as RDS logs
        yield {**owner, "user": "master", "password": "x"}


def run(statement: str, **connection: str) -> list[tuple[object, ...]]:
    with psycopg.connect(**connection) as opened:
        found = opened.execute(statement)
        return found.fetchall() if found.description else []


def run_as(role: str, database: str, statement: str, *, master: dict[str, str]) -> list[tuple[object, ...]]:
    return run(statement, **{**master, "dbname": database, "user": role, "password": PASSWORDS[role]})


@pytest.fixture(scope="module")
def prepared(master: dict[str, str]) -> dict[str, str]:
    database_setup.prepare(master, PASSWORDS)
    database_setup.prepare(master, PASSWORDS)  # as every start of MLflow's task repeats it
    return master


def test_each_program_owns_its_database_and_enters_no_other(prepared: dict[str, str]) -> None:
    for role in ("mlflow", "pricing"):
        run_as(role, role, "CREATE TABLE IF NOT EXISTS made (id int)", master=prepared)

    for role, other in (("mlflow", "pricing"), ("pricing", "mlflow")):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            run_as(role, other, "SELECT 1", master=prepared)


def test_no_password_stands_in_the_servers_log(prepared: dict[str, str]) -> None:
    data = run("SHOW data_directory", host=prepared["host"], user="postgres", dbname="postgres")[0][0]
    log = "".join(path.read_text() for path in Path(str(data)).glob("log*") if path.is_file())

    assert "ROLE" in log
    for password in PASSWORDS.values():
        assert password.replace("'", "''") not in log


def test_a_new_password_counts_from_the_next_start(prepared: dict[str, str]) -> None:
    before = opened_by("renewed", prepared, "pricing")

    database_setup.prepare(prepared, {**PASSWORDS, "pricing": "renewed"})

    assert (before, opened_by("renewed", prepared, "pricing")) == (False, True)


def opened_by(password: str, master: dict[str, str], role: str) -> bool:
    """Whether a password is the role's, by RFC 5803: the stored verifier is one that only the server's owner sees."""
    statement = f"SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'"
    verifier = run(statement, host=master["host"], user="postgres", dbname="postgres")[0][0]
    _, salted, keys = str(verifier).split("$")
    rounds, _, salt = salted.partition(":")
    whole = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(rounds))
    client = hmac.digest(whole, b"Client Key", "sha256")
    return hashlib.sha256(client).digest() == base64.b64decode(keys.partition(":")[0])


def test_roles_are_known_where_there_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)

    assert set(importlib.reload(database_setup).ROLES) == {"mlflow", "pricing"}


# What starts MLflow


SERVER = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from deploy import mlflow_server
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
os.execvp = lambda *words: None
for word in ("first-password", "renewed-password"):
    os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"] = word
    mlflow_server.main([])
store = SqlAlchemyStore()
store.init_db(os.environ["MLFLOW_BACKEND_STORE_URI"])
print(*(store.authenticate_user("admin", word) for word in ("first-password", "renewed-password")))
"""

# Registers a version, then takes the tables back to what MLflow 3.16.1, the release before, makes: by pg_dump the same.
RELEASE_BEFORE = "b7e2c1a4d9f3"
BEHIND = """
import sys
from alembic import command
from mlflow import MlflowClient
from mlflow.store.db.utils import _get_alembic_config
url, revision = sys.argv[1:]
client = MlflowClient(tracking_uri=url, registry_uri=url)
client.create_registered_model("pricing")
version = client.create_model_version("pricing", "s3://bucket/version", run_id=client.create_run("0").info.run_id)
client.set_registered_model_alias("pricing", "champion", version.version)
command.downgrade(_get_alembic_config(url), revision)
"""


@pytest.mark.weekly
@pytest.mark.slow
def test_mlflows_tables_and_administrator_are_those_of_this_release_and_secret_at_every_start_and_versions_stay(
    prepared: dict[str, str],
) -> None:
    pytest.importorskip("flask_wtf", reason="MLflow's users need mlflow[auth]")
    url = URL.create("postgresql", "mlflow", PASSWORDS["mlflow"], database="mlflow")
    text = url.update_query_dict({"host": prepared["host"]}).render_as_string(hide_password=False)
    run_as("mlflow", "mlflow", "DROP TABLE IF EXISTS made", master=prepared)  # MLflow fills an empty database alone
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    given = {**os.environ, "MLFLOW_BACKEND_STORE_URI": text, "PATH": path}

    def python(text: str, *words: str) -> list[str]:
        command = [sys.executable, "-W", "ignore", "-c", text, *words]
        done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def revision() -> object:
        return run_as("mlflow", "mlflow", "SELECT version_num FROM alembic_version", master=prepared)[0][0]

    assert python(SERVER, str(ROOT))[-1] == "False True"
    newest = revision()
    python(BEHIND, text, RELEASE_BEFORE)
    assert revision() == RELEASE_BEFORE != newest
    python(SERVER, str(ROOT))

    assert revision() == newest
    assert MlflowClient(tracking_uri=text, registry_uri=text).get_model_version_by_alias("pricing", "champion")


@pytest.mark.parametrize("password", ["", "short"])
def test_mlflow_does_not_start_open_where_a_password_is_given_and_cannot_be_used(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "sqlite://")
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", password)

    with pytest.raises(SystemExit, match=f"found {len(password)}"):
        mlflow_server.main([])


def test_mlflows_accounts_lie_in_its_own_database_and_no_password_in_the_file(tmp_path: Path) -> None:
    store = "postgresql://mlflow:p%40ss@db/mlflow"

    first, second = (
        mlflow_server.accounts(store, secret, folder=tmp_path) for secret in ("twelve characters", "other characters")
    )

    path = Path(first["MLFLOW_AUTH_CONFIG_PATH"])
    read = configparser.ConfigParser()
    read.read(path)
    assert read["mlflow"]["database_uri"] == store
    assert "characters" not in path.read_text()
    assert first["MLFLOW_FLASK_SERVER_SECRET_KEY"] != second["MLFLOW_FLASK_SERVER_SECRET_KEY"]


# What people search in the logs


FAULT = """
import logging, logging.config, sys
from pricing.errors import HistoryError
from pricing.runtime.cli import job
from serving.__main__ import log_config

@job("fault", config=False)
def main():
    if sys.argv[1] == "known":
        raise HistoryError("too few days")
    if sys.argv[1] == "serving":
        logging.config.dictConfig(log_config("INFO"))
    log = logging.getLogger("pricing.somewhere")
    if sys.argv[1] == "bug":
        raise ZeroDivisionError
    getattr(log, sys.argv[2])("%s errors in the feed", 3)
    return 0

sys.exit(main([] if sys.argv[1] != "typed" else ["--ghost", "1"]))
"""


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["known", ""], True),
        (["typed", ""], True),
        (["bug", ""], True),
        (["job", "error"], True),
        (["job", "critical"], True),
        (["serving", "error"], True),
        (["serving", "critical"], True),
        (["serving", "exception"], True),
        (["job", "info"], False),
        (["job", "warning"], False),
        (["serving", "info"], False),
        (["serving", "warning"], False),
    ],
)
def test_the_search_for_errors_finds_the_lines_that_programs_write_and_no_others(words: list[str], found: bool) -> None:
    (pattern,) = re.findall(r"--filter-pattern '%(.*)%'", (ROOT / "docs/operator/operating.md").read_text("utf-8"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    done = subprocess.run(
        [sys.executable, "-c", FAULT, *words], env=environment, capture_output=True, text=True, check=False
    )

    assert re.fullmatch(r"[\w:#=@/;,^$?\[\]{}|\\*+.-]+", pattern)  # all that CloudWatch takes: no space, no group
    assert done.stderr
    assert any(re.search(pattern, line) for line in done.stderr.splitlines()) == found, done.stderr
