"""Dockerfiles and docker-compose.yml, as files: what each image and each container promises."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.__main__ import GRACE_SECONDS

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted(ROOT.glob("Dockerfile.*"))
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LABELS = ("title", "description", "version", "revision", "source", "licenses", "base.name")


def test_hadolint_finds_nothing_in_any_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")

    done = subprocess.run([hadolint, *DOCKERFILES], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.suffix[1:])
def test_each_image_takes_its_base_by_argument_says_what_it_is_and_is_not_root(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert {line.split()[1] for line in text.splitlines() if line.startswith("FROM ")} == {"${BASE}"}
    assert re.findall(r"org\.opencontainers\.image\.([\w.]+)=", text) == list(LABELS)
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    assert all(line.startswith("CMD [") for line in text.splitlines() if line.startswith(("CMD", "ENTRYPOINT")))


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_can_write_or_gain_rights_beyond_its_volumes(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_no_secret_stands_in_the_compose_file_and_each_comes_from_the_folder_that_git_ignores() -> None:
    variables = [
        f"{name}={value}" for service in SERVICES.values() for name, value in service.get("environment", {}).items()
    ]

    assert [one for one in variables if re.match(r"\w*(PASSWORD|SECRET|KEY)(_FILE)?=(?!/run/secrets/)", one)] == []
    assert all(one["file"].startswith("${PRICING_COMPOSE:-./.compose}/") for one in COMPOSE["secrets"].values())
    assert ".compose/" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_both_serving_tasks_need_keys_and_differ_in_name_and_volume_alone() -> None:
    tasks = [dict(SERVICES[name]) for name in ("serving-1", "serving-2")]
    environments = [dict(task.pop("environment")) for task in tasks]
    own = [(one.pop("PRICING_TASK"), task.pop("volumes")[0]) for one, task in zip(environments, tasks, strict=True)]

    assert tasks[0] == tasks[1]
    assert environments[0] == environments[1]
    assert own == [(name, f"{name}:/var/lib/pricing") for name in ("serving-1", "serving-2")]
    assert environments[0]["PRICING_KEYS"] == "${PRICING_KEYS:-required}"
    assert environments[0]["PRICING_NEEDS_MODEL"] == "${PRICING_NEEDS_MODEL:-true}"


@pytest.mark.parametrize("name", ["serving-1", "serving-2"])
def test_a_serving_task_has_the_settings_and_the_zone_of_the_jobs(name: str) -> None:
    task, jobs = SERVICES[name], SERVICES["jobs"]
    settings = "${CONFIG_FOLDER:-./config}:/etc/pricing:ro"

    assert settings in task["volumes"]
    assert settings in jobs["volumes"]
    for variable in ("PRICING_CONFIG", "TZ"):
        assert task["environment"][variable] == jobs["environment"][variable]


@pytest.mark.parametrize("name", ["serving-1", "serving-2"])
def test_a_serving_task_holds_no_password_of_an_owner(name: str) -> None:
    held = {one if isinstance(one, str) else one["source"] for one in SERVICES[name]["secrets"]}

    assert held == {"mlflow-serving", "postgres-serving", "objects-serving", "api-keys"}
    assert "//serving@" in SERVICES[name]["environment"]["PRICING_DATABASE_URL"]


def test_the_files_passwords_are_set_before_mlflow_starts() -> None:
    accounts = SERVICES["accounts"]
    files = {name: value for name, value in accounts["environment"].items() if name.endswith("_FILE")}

    assert accounts["command"] == ["python", "-m", "deploy.mlflow_users"]
    assert set(files) == {"PASSWORD_ADMIN_FILE", "PASSWORD_SERVING_FILE"}
    assert {path.removeprefix("/run/secrets/") for path in files.values()} < set(accounts["secrets"])
    assert SERVICES["mlflow"]["depends_on"] == {"accounts": {"condition": "service_completed_successfully"}}


def test_docker_waits_longer_than_a_task_takes_to_end() -> None:
    grace = int(SERVICES["serving-1"]["stop_grace_period"].removesuffix("s"))

    assert grace > GRACE_SECONDS


def test_bodies_that_are_sent_by_halves_do_not_fill_the_proxys_memory() -> None:
    text = (ROOT / "deploy" / "compose" / "haproxy.cfg").read_text(encoding="utf-8")
    connections, size = (
        int(re.findall(rf"^ *{name} (\d+)$", text, re.MULTILINE)[0]) for name in ("maxconn", "tune.bufsize")
    )
    limit = int(SERVICES["proxy"]["mem_limit"].removesuffix("m")) * 2**20

    assert connections * 2 * size < 0.9 * limit


def test_the_proxy_holds_a_full_batch_whole() -> None:
    text = (ROOT / "deploy" / "compose" / "haproxy.cfg").read_text(encoding="utf-8")
    item = {
        "product_id": "SKU-0123456789@store-0123", "current_stock": 123456, "day_of_week": "Wednesday",
        "comp_price": 1234.56, "comp_price_age": 3, "is_promo": False, "date": "2026-11-27", "strategy": "clearance",
        "current_price": 1234.56, "unit_cost": 1234.56, "list_price": 1234.56, "next_delivery": "2026-12-01",
    }  # fmt: skip
    (size,) = re.findall(r"tune\.bufsize (\d+)", text)

    assert len(json.dumps({"requests": [item] * 1000})) < int(size)


def test_the_options_of_the_night_are_not_taken_for_the_schedulers() -> None:
    words = SERVICES["nightly"]["command"]

    assert words[:3] == ["python", "-m", "pipelines.schedule"]
    assert words.index("--zone") < words.index("--") < words.index("--sales")
