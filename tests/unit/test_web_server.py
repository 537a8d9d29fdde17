"""The web server's configuration: what granian is told, and what must agree with it elsewhere."""

from pathlib import Path

import pytest
import yaml

from pricing.config import load_config
from pricing.errors import ConfigError
from serving.settings import bind_address
from serving.web_server import GRACE_SECONDS, KEEP_ALIVE_SECONDS, web_server
from tests.kit.serving import settings_in


def test_workers_and_connections_are_the_configured_ones(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    server = web_server(settings)

    assert (server.workers, server.backpressure) == (
        settings.config.serving.workers,
        settings.config.serving.connections,
    )


@pytest.mark.parametrize(
    ("host", "address"),
    [("localhost", "127.0.0.1"), ("[::1]", "::1"), ("0.0.0.0", "0.0.0.0"), ("127.0.0.1", "127.0.0.1")],
)
def test_a_host_may_be_a_name_or_stand_in_brackets(host: str, address: str) -> None:
    assert bind_address(host) == address


def test_a_host_that_nobody_knows_is_named() -> None:
    with pytest.raises(ConfigError, match=r"HOST: 'no\.such\.host\.invalid' is no address"):
        bind_address("no.such.host.invalid")


def test_a_load_balancer_closes_an_idle_connection_first(tmp_path: Path) -> None:
    http = web_server(settings_in(tmp_path)).http1_settings

    assert http is not None
    assert http.header_read_timeout == 1000 * KEEP_ALIVE_SECONDS > 60_000


@pytest.mark.parametrize("name", ["serving", "mlflow"])
def test_no_container_of_compose_can_write_or_gain_rights_beyond_its_volume(name: str) -> None:
    service = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())["services"][name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_compose_needs_keys_and_knows_none(tmp_path: Path) -> None:
    service = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())["services"]["serving"]

    assert service["environment"]["PRICING_KEYS"] == "${PRICING_KEYS:-required}"
    assert service["environment"]["PRICING_API_KEYS"].startswith("${PRICING_API_KEYS:?")


def test_docker_waits_longer_than_open_requests_have_time_to_end() -> None:
    service = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())["services"]["serving"]

    lame_duck = load_config().serving.lame_duck_seconds

    assert int(service["stop_grace_period"].removesuffix("s")) > lame_duck + GRACE_SECONDS + 5
