"""The web server's configuration: what granian is told, and what must agree with it elsewhere."""

from pathlib import Path

import pytest

from pricing.errors import ConfigError
from serving.settings import bind_address
from serving.web_server import KEEP_ALIVE_SECONDS, web_server
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
