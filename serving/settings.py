"""Read the service's settings from the configuration file and the environment."""

import hashlib
import os
import re
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from pricing.config import Config, ConfigFile, read_config_file
from pricing.decision.experiments import experiments_file
from pricing.decision.switches import switch_file
from pricing.decision_log.places import uploads_url
from pricing.errors import ConfigError
from pricing.paths import SQLITE, pricing_home, tracking_uri
from pricing.runtime.shared_state import database_url, given_database_url, task_name
from serving.current_version import BAKED, FollowerPaths
from serving.keys import ApiKey, read_keys


@dataclass(frozen=True)
class Settings:
    """The settings of one run of the service.

    Attributes:
        config: The defaults, with the user's file over them.
        file: The user's file apart: what it gives in `decision` goes over the settings that a version carries.
        home: Folder of versions, decision log and pointers; survives restarts.
        run_folder: Folder that the processes of one run share; deleted at its end.
        run_id: Names this run, so that its files are not taken for an earlier run's.
        host: Address to bind.
        port: Port to bind.
        registry_uri: The MLflow registry that the follower watches.
        follows: Whether a follower runs, too; without one there is no first attempt to wait for.
        keys: The API keys; empty when none are given.
        database_url: The database of the switches.
        shared_url: The same where it was given, so that tasks share other files by it, too; None where they do not.
        decisions_url: Where the follower uploads the decision log, a folder or an s3:// address; None for nowhere.
        pinned: The number of the version to serve, whatever the alias names; None to follow the alias.
        task: The name of this service among those that serve together.
    """

    config: Config
    file: ConfigFile
    home: Path
    run_folder: Path
    run_id: str
    host: str
    port: int
    registry_uri: str
    follows: bool
    keys: tuple[ApiKey, ...]
    database_url: str
    shared_url: str | None = None
    decisions_url: str | None = None
    pinned: str | None = None
    task: str = "task"

    @property
    def decisions_folder(self) -> Path:
        """Where the workers append their decisions."""
        return self.home / "decisions"

    @property
    def experiments_file(self) -> Path:
        """The file of experiments, which the follower mirrors from the database where tasks share them."""
        return experiments_file(self.home)

    @property
    def switch_file(self) -> Path:
        """The file where the follower keeps the switches last known."""
        return switch_file(self.home)

    @property
    def upload_file(self) -> Path:
        """The file in which the follower says how far the decision log is uploaded."""
        return self.run_folder / "upload.json"

    @property
    def stopping_file(self) -> Path:
        """The file whose presence says that the service is about to stop; see `serving.__main__`."""
        return self.run_folder / "stopping"

    @property
    def places(self) -> FollowerPaths:
        """Paths of the follower's files for this registry."""
        text = f"{self.registry_uri}\n{self.config.registry.model_name}"
        name = hashlib.sha256(text.encode()).hexdigest()[:12]
        return FollowerPaths(home=self.home, registry=name, status=self.run_folder / "follower.json")

    @property
    def keys_needed(self) -> bool:
        """Whether a request without a valid key is refused."""
        rule: Literal["required", "local", "none"] = self.config.serving.keys
        return rule == "required" or (rule == "local" and not is_loopback(self.host))


def read_settings(environment: Mapping[str, str], *, baked: bool = True) -> Settings:
    """Reads PRICING_CONFIG, PRICING_HOME, PRICING_KEYS, PRICING_NEEDS_MODEL, PRICING_API_KEYS(_FILE), HOST, PORT, ….

    Args:
        environment: The variables.
        baked: Whether, without PRICING_CONFIG, the configuration counts that a champion was baked in with.

    Raises:
        ConfigError: A value cannot be used; names the variable, what was found and what is expected.
    """
    home = pricing_home(environment).absolute()
    given: str | Path | None = environment.get("PRICING_CONFIG") or None
    if given is None and baked and baked_config(home).is_file():
        given = baked_config(home)
    file = read_config_file(given)
    config = file.config
    given_apart: dict[str, object] = {}
    rule = environment.get("PRICING_KEYS")
    if rule is not None:
        if rule not in ("required", "local", "none"):
            raise ConfigError(f"PRICING_KEYS: expected required, local or none, found {rule!r}")
        given_apart["keys"] = rule
    needs = environment.get("PRICING_NEEDS_MODEL") or None
    if needs is not None:
        if needs not in ("true", "false"):
            raise ConfigError(f"PRICING_NEEDS_MODEL: expected true or false, found {needs!r}")
        given_apart["needs_model"] = needs == "true"
    config = config.model_copy(update={"serving": config.serving.model_copy(update=given_apart)})
    run_id = environment.get("PRICING_RUN_ID", "")
    run_folder = environment.get("PRICING_RUN_FOLDER")
    return Settings(
        config=config,
        file=file,
        home=home,
        run_folder=Path(run_folder) if run_folder else home / "serving" / "run",
        run_id=run_id,
        host=environment.get("HOST") or "127.0.0.1",
        port=_port(environment.get("PORT") or "8080"),
        registry_uri=_registry_uri(environment),
        follows=bool(run_id),
        keys=read_keys(environment),
        database_url=database_url(environment),
        shared_url=given_database_url(environment),
        decisions_url=uploads_url(environment),
        pinned=_pinned(environment),
        task=task_name(environment),
    )


def baked_config(home: Path) -> Path:
    """The configuration that an image's champion was baked in with, where one was given."""
    return home / "versions" / BAKED / "config.yaml"


def bind_address(host: str) -> str:
    """The IP address to bind: as given, with or without brackets, or the first one of a name, IPv4 before IPv6.

    Raises:
        ConfigError: The name is unknown.
    """
    literal = host.removeprefix("[").removesuffix("]")
    try:
        return str(ip_address(literal))
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(literal, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"HOST: {host!r} is no address and no known name ({error.strerror or error})") from error
    addresses = {family: str(address[0]) for family, *_, address in reversed(found)}
    return addresses.get(socket.AF_INET) or next(iter(addresses.values()))


def is_loopback(host: str) -> bool:
    """Whether an address to bind can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def shared_memory() -> str:
    """The folder for short-lived files: /dev/shm, which a full disk does not affect, or a temporary folder."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and os.access(memory, os.W_OK) else tempfile.gettempdir()


def _registry_uri(environment: Mapping[str, str]) -> str:
    uri = tracking_uri(environment)
    if uri.startswith(SQLITE) and not uri.startswith(f"{SQLITE}/"):
        return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).absolute()}"
    return uri


def _pinned(environment: Mapping[str, str]) -> str | None:
    text = environment.get("PRICING_VERSION") or None
    if text is not None and not re.fullmatch(r"[1-9][0-9]{0,18}", text):
        raise ConfigError(f"PRICING_VERSION: expected the number of a version, such as 7, found {text[:60]!r}")
    return text


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ConfigError(f"PORT: expected a number from 1 to 65535, found {text!r}")
    return int(text)
