"""Dockerfiles and compose files: what linters find, and what containers that face the world promise."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.app import BODY_LIMIT
from serving.routes.pricing import BATCH_LIMIT

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted(ROOT.glob("Dockerfile.*"))
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
HARDENED: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.hardened.yml").read_text("utf-8"))[
    "services"
]
PROXY = (ROOT / "deploy" / "compose" / "haproxy.cfg").read_text(encoding="utf-8")
TASKS = ("serving-1", "serving-2")


def test_hadolint_finds_nothing_in_any_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")

    done = subprocess.run([hadolint, *DOCKERFILES], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


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


def test_an_alarm_of_compose_reaches_the_webhook_and_its_address_stands_in_no_file() -> None:
    folder = ROOT / "deploy" / "compose"
    alerting = yaml.safe_load((folder / "prometheus.yml").read_text(encoding="utf-8"))["alerting"]["alertmanagers"]
    (receiver,) = yaml.safe_load((folder / "alertmanager.yml").read_text(encoding="utf-8"))["receivers"]

    assert alerting == [{"static_configs": [{"targets": ["alertmanager:9093"]}]}]
    (hook,) = receiver["webhook_configs"]
    assert f"> {hook['url_file']};" in SERVICES["alertmanager"]["entrypoint"][-1]


def test_every_job_of_compose_has_a_time_limit() -> None:
    limited = {name for name, service in SERVICES.items() if service.get("entrypoint", [""])[0] == "timeout"}

    assert limited == {"jobs", "demo"}
    assert "exec timeout --kill-after=60 20h pricing nightly" in SERVICES["nightly"]["command"][2]


@pytest.mark.parametrize("name", TASKS)
def test_a_serving_task_cannot_write_what_is_published(name: str) -> None:
    mounted = [volume for volume in SERVICES[name]["volumes"] if volume.startswith("published:")]

    assert mounted == ["published:/var/lib/pricing/published:ro"]


def test_bodies_that_are_sent_by_halves_do_not_fill_the_proxys_memory() -> None:
    connections, size = map(int, re.findall(r"^ *(?:maxconn|tune\.bufsize) (\d+)$", PROXY, re.MULTILINE))

    assert SERVICES["proxy"]["mem_limit"] == "1g"
    assert connections * size < 0.6 * 2**30


def test_the_proxy_and_the_service_take_bodies_of_the_same_size_and_a_full_batch_is_smaller() -> None:
    limits = {int(found) for found in re.findall(r"req\.body_size gt (\d+)", PROXY)}
    item = {
        "product_id": "SKU-0123456789@store-0123", "current_stock": 123456, "day_of_week": "Wednesday",
        "comp_price": 1234.56, "comp_price_age": 3, "is_promo": False, "date": "2026-11-27", "strategy": "clearance",
        "current_price": 1234.56, "unit_cost": 1234.56, "list_price": 1234.56, "next_delivery": "2026-12-01",
    }  # fmt: skip

    assert limits == {BODY_LIMIT}
    assert len(json.dumps({"requests": [item] * BATCH_LIMIT})) < BODY_LIMIT
