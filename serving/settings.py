"""Read the service's settings from the configuration file and the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from pricing.config import Config, ConfigFile, read_config_file
from pricing.errors import ConfigError
from pricing.paths import log_url, pricing_home
from pricing.registry.published_store import BAKED, published_url
from pricing.runtime.api_keys import ApiKey, is_loopback, read_keys


@dataclass(frozen=True)
class Settings:
    """The settings of one serving process."""

    config: Config  # the defaults, with the user's file over them
    file: ConfigFile  # apart: what it gives in `decision` goes over the settings that a version carries
    home: Path  # of all local files
    published: str  # the store of versions, pointer and control: a folder or an s3:// address
    decisions_url: str  # the store that decisions are sent to, likewise
    host: str
    port: int
    keys: tuple[ApiKey, ...]

    @property
    def keys_needed(self) -> bool:
        """Tells whether a request without a valid key is refused."""
        rule = self.config.serving.keys
        return rule == "required" or (rule == "local" and not is_loopback(self.host))


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Reads PRICING_CONFIG, PRICING_HOME, PRICING_PUBLISHED, PRICING_KEYS, PRICING_API_KEYS(_FILE), HOST and PORT.

    Without PRICING_CONFIG the configuration counts that a champion was baked in with, where there is one. Raises
    ConfigError, which names variable, value and what is expected.
    """
    home = pricing_home(environment).absolute()
    baked = home / BAKED / "config.yaml"
    file = read_config_file(environment.get("PRICING_CONFIG") or (baked if baked.is_file() else None))
    config = file.config
    rule = environment.get("PRICING_KEYS")
    if rule is not None:
        if rule not in ("required", "local", "none"):
            raise ConfigError(f"PRICING_KEYS: expected required, local or none, found {rule!r}")
        config = config.model_copy(update={"serving": config.serving.model_copy(update={"keys": rule})})
    port = environment.get("PORT") or "8080"
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"PORT: expected a number from 1 to 65535, found {port!r}")
    return Settings(
        config=config,
        file=file,
        home=home,
        published=published_url(environment),
        decisions_url=log_url(environment),
        host=environment.get("HOST") or "127.0.0.1",
        port=int(port),
        keys=read_keys(environment),
    )


def bind_address(host: str) -> str:
    """The IP address to bind, 127.0.0.1 of localhost; raises ConfigError where it is none."""
    try:
        return "127.0.0.1" if host == "localhost" else str(ip_address(host.strip("[]")))
    except ValueError as error:
        raise ConfigError(f"HOST: expected an IP address or localhost, found {host!r}") from error
