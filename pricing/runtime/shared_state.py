"""Where the state lies that several machines share, and who changes it."""

import getpass
import os
import re
import socket
from collections.abc import Mapping

from pricing.errors import ConfigError
from pricing.paths import SQLITE, pricing_home

_DATABASE = re.compile(r"(postgres(ql)?|sqlite)(\+\w+)?://")


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
