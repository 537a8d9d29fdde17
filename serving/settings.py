"""What the service is told from outside: the configuration file and the environment, read once."""

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from pricing.config import Config, load_config
from pricing.config_models import TrialConfig
from pricing.decision.assignment import holdout_file
from pricing.decision.price_tests import plan_file
from pricing.errors import ConfigError
from pricing.paths import SQLITE, pricing_home, tracking_uri
from serving.current_version import Places
from serving.keys import ApiKey, read_keys


@dataclass(frozen=True)
class Settings:
    """Everything one run of the service needs to know.

    Attributes:
        config: The defaults, with the file in `config_path` over them.
        config_path: The user's file; its `decision` section then replaces the one a version was built with.
        home: Where versions, the decision log and the pointer live; survives restarts.
        run_folder: What the processes of one run share; gone with it.
        run_id: Names this run, so that its processes tell their own traces from an earlier run's.
        host: Address to bind.
        port: Port to bind.
        registry_uri: The MLflow registry that the follower watches.
        follows: Whether a follower runs beside this; without one there is no first attempt to wait for.
        keys: Who may call; empty when no keys are given.
    """

    config: Config
    config_path: Path | None
    home: Path
    run_folder: Path
    run_id: str
    host: str
    port: int
    registry_uri: str
    follows: bool
    keys: tuple[ApiKey, ...]

    @property
    def decisions_folder(self) -> Path:
        """Where the workers append their decisions."""
        return self.home / "decisions"

    @property
    def trial_file(self) -> Path:
        """Where the products of a trial are kept for good."""
        trial = self.config.serving.trial
        return self.home / "trials" / f"{trial.name if trial else 'none'}.json"

    @property
    def canary_file(self) -> Path:
        """Where the products that the challenger answers for are kept for good."""
        return self.home / "trials" / "challenger.json"

    @property
    def holdout_file(self) -> Path:
        """Where monitoring keeps the list of the products that are held out."""
        return holdout_file(self.home)

    @property
    def price_tests_file(self) -> Path:
        """Where `pipelines.price_test` keeps the plan of price tests."""
        return plan_file(self.home)

    @property
    def tries_challenger(self) -> bool:
        """Whether the challenger answers for anything, or is priced in the shadow."""
        return self.config.serving.challenger_share > 0 or self.config.serving.challenger_shadow > 0

    @property
    def places(self) -> Places:
        """Where the follower keeps what it fetches from this registry."""
        text = f"{self.registry_uri}\n{self.config.registry.model_name}"
        name = hashlib.sha256(text.encode()).hexdigest()[:12]
        return Places(home=self.home, registry=name, status=self.run_folder / "follower.json")

    @property
    def keys_needed(self) -> bool:
        """Whether a request without a valid key is refused."""
        rule: Literal["required", "local", "none"] = self.config.serving.keys
        return rule == "required" or (rule == "local" and not is_loopback(self.host))


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Reads PRICING_CONFIG, PRICING_HOME, PRICING_KEYS, PRICING_API_KEYS(_FILE), HOST, PORT, MLFLOW_TRACKING_URI, ….

    Raises:
        ConfigError: A value cannot be used; names the variable, what was found and what is expected.
    """
    given = environment.get("PRICING_CONFIG")
    config = load_config(given)
    rule = environment.get("PRICING_KEYS")
    if rule is not None:
        if rule not in ("required", "local", "none"):
            raise ConfigError(f"PRICING_KEYS: expected required, local or none, found {rule!r}")
        config = config.model_copy(update={"serving": config.serving.model_copy(update={"keys": rule})})
    check_trial(config.serving.trial, list(config.decision.strategies))
    run_id = environment.get("PRICING_RUN_ID", "")
    home = pricing_home(environment).absolute()
    run_folder = environment.get("PRICING_RUN_FOLDER")
    return Settings(
        config=config,
        config_path=Path(given).absolute() if given else None,
        home=home,
        run_folder=Path(run_folder) if run_folder else home / "serving" / "run",
        run_id=run_id,
        host=environment.get("HOST") or "127.0.0.1",
        port=_port(environment.get("PORT") or "8080"),
        registry_uri=_registry_uri(environment),
        follows=bool(run_id),
        keys=read_keys(environment),
    )


def check_trial(trial: TrialConfig | None, strategies: Sequence[str]) -> None:
    """Refuses a trial of strategies that are not configured.

    Raises:
        ConfigError: Names the strategy.
    """
    for name in trial.strategies if trial else ():
        if name not in strategies:
            raise ConfigError(f"serving.trial: strategy {name!r} is none of {', '.join(sorted(strategies))}")


def is_loopback(host: str) -> bool:
    """Whether an address to bind can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def shared_memory() -> str:
    """A folder for short-lived files that a full disk cannot touch, where the system has one."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and os.access(memory, os.W_OK) else tempfile.gettempdir()


def _registry_uri(environment: Mapping[str, str]) -> str:
    uri = tracking_uri(environment)
    if uri.startswith(SQLITE) and not uri.startswith(f"{SQLITE}/"):
        return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).absolute()}"
    return uri


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ConfigError(f"PORT: expected a number from 1 to 65535, found {text!r}")
    return int(text)
