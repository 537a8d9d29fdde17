"""Dockerfiles and docker-compose.yml, as files: what each image and each container promises."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pricing.config import load_config
from serving.__main__ import GRACE_SECONDS

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted(ROOT.glob("Dockerfile.*"))
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROXY = (ROOT / "deploy" / "compose" / "haproxy.cfg").read_text(encoding="utf-8")
LIMITS = ("maxconn", "tune.bufsize")
TASKS = ("serving-1", "serving-2")
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


def test_both_serving_tasks_need_keys_and_differ_in_their_volume_alone() -> None:
    tasks = [dict(SERVICES[name]) for name in TASKS]
    own = [task.pop("volumes")[0] for task in tasks]

    assert tasks[0] == tasks[1]
    assert own == [f"{name}:/var/lib/pricing" for name in TASKS]
    assert tasks[0]["environment"]["PRICING_KEYS"] == "${PRICING_KEYS:-required}"


def test_tasks_and_jobs_meet_in_what_is_published_and_in_the_decision_log() -> None:
    for variable in ("PRICING_PUBLISHED", "PRICING_DECISIONS_URL"):
        assert len({SERVICES[name]["environment"][variable] for name in (*TASKS, "jobs", "nightly", "publish")}) == 1
    assert SERVICES["publish"]["command"] == ["pricing", "publish", "--every", "10"]
    assert "profiles" not in SERVICES["publish"]


@pytest.mark.parametrize("name", TASKS)
def test_a_serving_task_has_the_settings_and_the_zone_of_the_jobs(name: str) -> None:
    task, jobs = SERVICES[name], SERVICES["jobs"]
    settings = "${CONFIG_FOLDER:-./config}:/etc/pricing:ro"

    assert settings in task["volumes"]
    assert settings in jobs["volumes"]
    for variable in ("PRICING_CONFIG", "TZ"):
        assert task["environment"][variable] == jobs["environment"][variable]


@pytest.mark.parametrize("name", TASKS)
def test_a_serving_task_reaches_neither_database_nor_registry(name: str) -> None:
    held = {one if isinstance(one, str) else one["source"] for one in SERVICES[name]["secrets"]}

    assert held == {"objects-serving", "api-keys"}
    assert not {"MLFLOW_TRACKING_URI", "PRICING_DATABASE_URL"} & SERVICES[name]["environment"].keys()


def test_the_files_passwords_are_set_before_mlflow_starts() -> None:
    accounts = SERVICES["accounts"]

    assert accounts["command"] == ["python", "-m", "deploy.mlflow_users"]
    assert accounts["environment"]["PASSWORD_ADMIN_FILE"] == f"/run/secrets/{accounts['secrets'][0]}"
    assert SERVICES["mlflow"]["depends_on"] == {"accounts": {"condition": "service_completed_successfully"}}


def test_docker_waits_longer_than_a_task_takes_to_end() -> None:
    """Open requests, and then the last decisions, as `serving.__main__` waits for them."""
    assert int(SERVICES["serving-1"]["stop_grace_period"].removesuffix("s")) > 2 * GRACE_SECONDS


def test_bodies_that_are_sent_by_halves_do_not_fill_the_proxys_memory() -> None:
    connections, size = (int(re.findall(rf"^ *{name} (\d+)$", PROXY, re.MULTILINE)[0]) for name in LIMITS)

    assert SERVICES["proxy"]["mem_limit"] == "1g"
    assert connections * size < 0.6 * 2**30


def test_the_proxy_and_the_service_take_bodies_of_the_same_size() -> None:
    limits = {int(found) for found in re.findall(r"req\.body_size gt (\d+)", PROXY)}

    assert limits == {load_config().serving.body_limit}


def test_a_full_batch_is_smaller_than_the_limit() -> None:
    item = {
        "product_id": "SKU-0123456789@store-0123", "current_stock": 123456, "day_of_week": "Wednesday",
        "comp_price": 1234.56, "comp_price_age": 3, "is_promo": False, "date": "2026-11-27", "strategy": "clearance",
        "current_price": 1234.56, "unit_cost": 1234.56, "list_price": 1234.56, "next_delivery": "2026-12-01",
    }  # fmt: skip

    assert len(json.dumps({"requests": [item] * 1000})) < load_config().serving.body_limit


def test_the_options_of_the_night_are_not_taken_for_the_schedulers() -> None:
    words = SERVICES["nightly"]["command"]

    assert words[:3] == ["python", "-m", "pipelines.schedule"]
    assert words.index("--zone") < words.index("--") < words.index("--sales")
