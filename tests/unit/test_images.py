"""Dockerfiles and the two compose files, as files: what each image and each container promises."""

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
HARDENED: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.hardened.yml").read_text("utf-8"))[
    "services"
]
PROXY = (ROOT / "deploy" / "compose" / "haproxy.cfg").read_text(encoding="utf-8")
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
    assert '"/tmp"' in re.findall(r"^VOLUME (.*)$", text, re.MULTILINE)[0]
    assert all(line.startswith("CMD [") for line in text.splitlines() if line.startswith(("CMD", "ENTRYPOINT")))


def test_every_file_that_an_image_copies_is_sent_to_the_engine() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] == "!"}
    lines = [
        line.split()[1:-1]
        for path in DOCKERFILES
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("COPY ") and "--from" not in line
    ]

    assert {word for line in lines for word in line} == sent


def test_up_alone_needs_no_file_that_git_does_not_keep_and_no_variable() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    mounted = [one.split(":")[0] for service in SERVICES.values() for one in service.get("volumes", [])]

    assert not re.search(r"\$\{\w+:?\?", text)
    assert "secrets" not in COMPOSE
    assert all((ROOT / path).exists() for path in mounted if path.startswith("./"))
    assert all(port.startswith("127.0.0.1:") for service in SERVICES.values() for port in service.get("ports", []))
    assert all(service["mem_limit"] for service in SERVICES.values())


@pytest.mark.parametrize("name", SERVICES)
def test_hardened_no_container_can_write_or_gain_rights_beyond_its_volumes(name: str) -> None:
    service = HARDENED[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("read_only") is True or name == "prometheus"


def test_hardened_every_password_and_key_must_be_given_and_none_has_a_usual_one() -> None:
    text = (ROOT / "docker-compose.hardened.yml").read_text(encoding="utf-8")
    usual = set(re.findall(r"\$\{(\w+(?:PASSWORD|KEY)):-", (ROOT / "docker-compose.yml").read_text(encoding="utf-8")))

    assert usual <= set(re.findall(r"\$\{(\w+):\?", text))
    assert ":-" not in text
    assert {HARDENED[name]["environment"]["PRICING_KEYS"] for name in TASKS} == {"required"}


def test_both_serving_tasks_differ_in_their_volume_alone_and_read_what_jobs_publish() -> None:
    tasks = [dict(SERVICES[name]) for name in TASKS]
    volumes = [task.pop("volumes") for task in tasks]

    assert tasks[0] == tasks[1]
    assert volumes[0][:-1] == volumes[1][:-1]
    assert "published:/var/lib/pricing/published:ro" in volumes[0]
    for name in ("jobs", "nightly", "publish"):
        assert {"published:/var/lib/pricing/published", volumes[0][1]} <= set(SERVICES[name]["volumes"])


@pytest.mark.parametrize("name", TASKS)
def test_a_serving_task_has_the_settings_and_the_zone_of_the_jobs_and_reaches_neither_database_nor_registry(
    name: str,
) -> None:
    task, jobs = SERVICES[name], SERVICES["jobs"]

    assert "${CONFIG_FOLDER:-./config}:/etc/pricing:ro" in set(task["volumes"]) & set(jobs["volumes"])
    for variable in ("PRICING_CONFIG", "TZ"):
        assert task["environment"][variable] == jobs["environment"][variable]
    named = {*task["environment"], *HARDENED[name]["environment"]}
    assert not [one for one in named if re.search("PASSWORD|MLFLOW|DATABASE", one)]


def test_docker_waits_longer_than_a_task_takes_to_end() -> None:
    """Open requests, and then the last decisions, as `serving.__main__` waits for them."""
    assert int(SERVICES["serving-1"]["stop_grace_period"].removesuffix("s")) > 2 * GRACE_SECONDS


def test_bodies_that_are_sent_by_halves_do_not_fill_the_proxys_memory() -> None:
    connections, size = (
        int(re.findall(rf"^ *{name} (\d+)$", PROXY, re.MULTILINE)[0]) for name in ("maxconn", "tune.bufsize")
    )

    assert SERVICES["proxy"]["mem_limit"] == "1g"
    assert connections * size < 0.6 * 2**30


def test_the_proxy_and_the_service_take_bodies_of_the_same_size_and_a_full_batch_is_smaller() -> None:
    limits = {int(found) for found in re.findall(r"req\.body_size gt (\d+)", PROXY)}
    item = {
        "product_id": "SKU-0123456789@store-0123", "current_stock": 123456, "day_of_week": "Wednesday",
        "comp_price": 1234.56, "comp_price_age": 3, "is_promo": False, "date": "2026-11-27", "strategy": "clearance",
        "current_price": 1234.56, "unit_cost": 1234.56, "list_price": 1234.56, "next_delivery": "2026-12-01",
    }  # fmt: skip

    assert limits == {load_config().serving.body_limit}
    assert len(json.dumps({"requests": [item] * 1000})) < load_config().serving.body_limit


def test_the_night_waits_for_its_minute_and_takes_the_sales_that_are_named_and_none_starts_without(
    tmp_path: Path,
) -> None:
    program = SERVICES["nightly"]["command"][2].replace("$$", "$")
    clock = "date() { if [ -e late ]; then echo 02:30; else echo 02:29; fi; }; sleep() { [ $1 = 60 ] || touch late; }\n"
    words = ["sh", "-c", clock + program.replace("exec pricing", "echo"), "02:30"]

    none, night = (
        subprocess.run([*words, sales], cwd=tmp_path, capture_output=True, text=True, check=False)
        for sales in ("", "/sales/my shop.csv")
    )

    assert none.returncode == 2
    assert night.stdout == "nightly --sales /sales/my shop.csv\n"
    assert (tmp_path / "late").exists()
