"""Where the state lies that several machines share, and who changes it."""

import getpass
import os
import socket
from collections.abc import Mapping

from pricing.paths import SQLITE, pricing_home


def database_url(environment: Mapping[str, str] = os.environ) -> str:
    """The database of the promotion record and of the switches: PRICING_DATABASE_URL, or pricing.db in PRICING_HOME."""
    return given_database_url(environment) or f"{SQLITE}{pricing_home(environment).resolve() / 'pricing.db'}"


def given_database_url(environment: Mapping[str, str] = os.environ) -> str | None:
    """PRICING_DATABASE_URL; None where it is not given, so that what other tasks need not see stays in files."""
    return environment.get("PRICING_DATABASE_URL") or None


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
