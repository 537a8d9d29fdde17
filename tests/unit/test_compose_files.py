"""Passwords and keys of docker-compose.yml, and what starts MLflow with them."""

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import mlflow_users, tracking_server
from deploy.compose_files import FOLDER, ROOT, folder_of, write_files
from deploy.prometheus_files import ALERT_RULES, PANELS, dashboard, prometheus, rules
from serving.auth import read_keys


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((folder / "secrets").iterdir())}


def test_secrets_are_made_once_are_all_different_and_lie_in_a_folder_of_their_owner(tmp_path: Path) -> None:
    folder = tmp_path / "files"

    made = write_files(folder)
    first = contents(folder)
    again = write_files(folder)

    assert again == []
    assert contents(folder) == first
    assert len({path.read_text() for path in made}) == len(made) > 5
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_secret_that_is_replaced_replaces_what_is_made_of_it(tmp_path: Path) -> None:
    write_files(tmp_path)
    (tmp_path / "secrets" / "postgres-pricing").write_text("another\n")

    write_files(tmp_path)

    assert contents(tmp_path)["postgres-pricing.conf"].splitlines() == ["[pricing]", "password=another"]


def test_the_service_may_write_decisions_and_the_platform_everything(tmp_path: Path) -> None:
    write_files(tmp_path)

    accounts = {one["name"]: one for one in json.loads(contents(tmp_path)["objects.json"])["identities"]}

    assert accounts["serving"]["actions"] == ["Write:pricing/decisions/*"]
    assert "Admin" in accounts["pricing"]["actions"]
    for name, file in (("pricing", "objects"), ("serving", "objects-serving")):
        (key,) = accounts[name]["credentials"]
        assert f"aws_secret_access_key={key['secretKey']}" in contents(tmp_path)[f"{file}.ini"].splitlines()


@pytest.mark.parametrize(
    ("settings", "given", "folder"),
    [
        ("", {}, FOLDER),
        ("PORT=9000\nPRICING_COMPOSE=/srv/shop # of the shop\n", {}, Path("/srv/shop")),
        ('PRICING_COMPOSE="/srv/my shop"', {}, Path("/srv/my shop")),
        ("export PRICING_COMPOSE = './my shop'", {}, ROOT / "my shop"),
        ("PRICING_COMPOSE=", {}, FOLDER),
        ("#PRICING_COMPOSE=/srv/shop", {}, FOLDER),
        ("PRICING_COMPOSE=/srv/first\nPRICING_COMPOSE=/srv/last", {}, Path("/srv/last")),
        ("PRICING_COMPOSE=/srv/shop", {"PRICING_COMPOSE": "/srv/other"}, Path("/srv/other")),
    ],
)
def test_secrets_lie_where_docker_compose_will_look_for_them(
    settings: str, given: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(settings)

    assert folder_of(given, settings=tmp_path / ".env") == folder


def test_without_a_settings_file_secrets_lie_in_the_usual_folder(tmp_path: Path) -> None:
    assert folder_of({}, settings=tmp_path / ".env") == FOLDER


def test_make_leaves_ports_and_the_folder_to_docker_compose() -> None:
    shown = subprocess.run(["make", "-n", "up"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert "docker compose port proxy 8080" in shown
    assert "8080;" not in shown.replace("port proxy 8080", "")
    assert not re.findall(r"^export\b", makefile, re.MULTILINE)  # the environment goes before .env


def test_the_service_takes_the_keys_and_prometheus_one_that_opens_figures_alone(tmp_path: Path) -> None:
    write_files(tmp_path)

    keys = read_keys({"PRICING_API_KEYS_FILE": str(tmp_path / "secrets" / "api-keys")})

    assert {key.name: set(key.scopes) for key in keys} == {
        "shop": {"price", "explain"},
        "operator": {"price", "explain", "admin"},
        "prometheus": {"admin"},
    }


def test_any_python_writes_the_files_without_a_package_of_the_project(tmp_path: Path) -> None:
    program = ROOT / "deploy" / "compose_files.py"

    done = subprocess.run(
        [sys.executable, "-S", program, tmp_path], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "prometheus" / "prometheus.yml").read_text()) == prometheus()
    assert json.loads((tmp_path / "prometheus" / "rules.yml").read_text()) == rules()
    assert json.loads((tmp_path / "grafana" / "dashboards" / "pricing.json").read_text()) == dashboard()


def test_panels_and_alarms_have_names_of_their_own() -> None:
    assert len({panel.title for panel in PANELS}) == len(PANELS)
    assert len({rule.name for rule in ALERT_RULES}) == len(ALERT_RULES)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard()["panels"]]
    assert len(set(places)) == len(PANELS)


def test_mlflow_is_open_where_no_password_is_given_and_takes_one_from_a_file_or_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("twelve characters\n")

    assert tracking_server.password({}) is None
    assert tracking_server.password({"MLFLOW_ADMIN_PASSWORD_FILE": str(file)}) == "twelve characters"
    assert tracking_server.password({"MLFLOW_AUTH_ADMIN_PASSWORD": "twelve characters"}) == "twelve characters"


@pytest.mark.parametrize(("text", "told"), [(None, "cannot be read"), ("", "found 0"), ("short", "found 5")])
def test_mlflow_does_not_start_open_where_a_password_is_named_and_cannot_be_used(
    text: str | None, told: str, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    if text is not None:
        file.write_text(text)

    with pytest.raises(SystemExit, match=told):
        tracking_server.password({"MLFLOW_ADMIN_PASSWORD_FILE": str(file)})


def test_mlflows_accounts_lie_in_its_own_database_and_no_password_in_the_file(tmp_path: Path) -> None:
    store = "postgresql+psycopg2://mlflow:p%40ss@db/mlflow"

    first, second = (
        tracking_server.accounts({"MLFLOW_BACKEND_STORE_URI": store}, secret, folder=tmp_path)
        for secret in ("twelve characters", "other characters")
    )

    path = Path(first["MLFLOW_AUTH_CONFIG_PATH"])
    read = configparser.ConfigParser()
    read.read(path)
    assert read["mlflow"]["database_uri"] == store
    assert "characters" not in path.read_text()
    assert first["MLFLOW_FLASK_SERVER_SECRET_KEY"] != second["MLFLOW_FLASK_SERVER_SECRET_KEY"]


def test_mlflows_users_take_their_passwords_from_files_or_variables(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("of the file\n")

    passwords = mlflow_users.read_passwords({"PASSWORD_ADMIN_FILE": str(file), "PASSWORD_SERVING": "of the variable"})

    assert passwords == {"admin": "of the file", "serving": "of the variable"}
    assert tracking_server.ADMIN == mlflow_users.ADMIN


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"PASSWORD_ADMIN": "x"}, "PASSWORD_SERVING: expected"),
        ({"PASSWORD_ADMIN_FILE": "/nowhere"}, "/nowhere cannot be read"),
    ],
)
def test_a_user_of_mlflow_without_a_password_is_named(given: dict[str, str], told: str) -> None:
    with pytest.raises(SystemExit, match=told):
        mlflow_users.read_passwords(given)
