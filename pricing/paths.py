"""Where the state lies that all programs share, as the environment says, and who changes it.

Environment variables that one program sets for another are named here.
"""

import getpass
import os
import re
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pricing.errors import ConfigError

CODE = Path(__file__).resolve().parent.parent  # what holds our packages: a checkout, or site-packages
CHECKOUT = (CODE / "MLproject").is_file()
ROOT = CODE if CHECKOUT else Path.cwd()  # the project's root; installed, the folder that a command was issued from
_PACKAGED = CODE / "pricing" / "defaults"  # where the wheel has what is config/ in a checkout
SETTINGS = _PACKAGED if _PACKAGED.is_dir() else CODE / "config"
SQLITE = "sqlite:///"
_DATABASE = re.compile(r"(postgres(ql)?|sqlite)(\+\w+)?://")
PARENT_VARIABLE = "PRICING_PARENT_RUN_ID"  # the MLflow run of the job that started this one
ETL_VARIABLE = "PRICING_ETL"  # where etl keeps what it makes: a folder or an s3:// address; PRICING_HOME/etl without it
LOG_VARIABLE = "PRICING_DECISIONS_URL"  # where the decision log lies: the same; PRICING_HOME/decisions without it


def page_css() -> str:
    """The style sheet of every page, for the console to serve and for pages that are whole by themselves to hold."""
    return (CODE / "pricing" / "page.css").read_text(encoding="utf-8")


def tracking_uri(environment: Mapping[str, str] = os.environ) -> str:
    """The URI of MLflow's tracking store: MLFLOW_TRACKING_URI, or mlflow.db at the project's root."""
    return environment.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{ROOT / 'mlflow.db'}"


def pricing_home(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of all other local files: PRICING_HOME, or .pricing at the project's root.

    `mlflow run GIT-URL` executes in a temporary clone, whose .pricing would be lost with it; there the home lies
    beside the local tracking database, which is in the folder that the command was issued from.
    """
    given = environment.get("PRICING_HOME")
    if given:
        return Path(given)
    in_clone = "MLFLOW_RUN_ID" in environment and ROOT.is_relative_to(Path(tempfile.gettempdir()).resolve())
    if in_clone and tracking_uri(environment).startswith(f"{SQLITE}/"):
        return Path(tracking_uri(environment).removeprefix(SQLITE)).parent / ".pricing"
    return ROOT / ".pricing"


def etl_folder(environment: Mapping[str, str] = os.environ) -> str:
    """Where `etl` keeps rows and plans: PRICING_ETL, a folder or an s3:// address, else PRICING_HOME/etl."""
    return (environment.get(ETL_VARIABLE) or str(pricing_home(environment) / "etl")).rstrip("/")


def log_url(environment: Mapping[str, str] = os.environ) -> str:
    """The address of the decision log: PRICING_DECISIONS_URL, a folder or s3://…, else PRICING_HOME/decisions."""
    return environment.get(LOG_VARIABLE) or str(pricing_home(environment) / "decisions")


def database_url(environment: Mapping[str, str] = os.environ) -> str:
    """The database of the promotion record and of the switches: PRICING_DATABASE_URL, or pricing.db in PRICING_HOME."""
    return given_database_url(environment) or f"{SQLITE}{pricing_home(environment).resolve() / 'pricing.db'}"


def given_database_url(environment: Mapping[str, str] = os.environ) -> str | None:
    """PRICING_DATABASE_URL; None where it is not given, so that what other tasks need not see stays in files.

    Raises:
        ConfigError: It is no address of PostgreSQL or SQLite. What it is stays unsaid: it may hold a password.
    """
    given = environment.get("PRICING_DATABASE_URL") or None
    if given is not None and not _DATABASE.match(given):
        raise ConfigError(
            "PRICING_DATABASE_URL: expected postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:////PATH, and nothing "
            f"around it; found {len(given)} characters that begin otherwise"
        )
    return given


def actor() -> str:
    """Who acts: PRICING_ACTOR, or user@host."""
    given = os.environ.get("PRICING_ACTOR")
    if given:
        return given
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
