"""List what is missing on this machine, and what to do about each thing."""

import ctypes
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from pricing import __version__
from pricing.errors import EXIT_KNOWN_ERROR, ConfigError, PricingError
from pricing.fileio import redact_text, redact_url
from pricing.paths import CODE, SETTINGS, SQLITE, given_database_url, pricing_home, tracking_uri
from pricing.runtime.cli import job


@job("doctor")
def main(*, config: str | None) -> int:
    """Says what is missing on this machine, and what to do; exits with 2 where something needed is missing."""
    faults = []
    checks: tuple[tuple[str, Callable[[], str], str], ...] = (
        ("pricing", lambda: f"{__version__} in {CODE}", ""),
        ("OpenMP", _openmp, "apt-get install libgomp1, or brew install libomp: LightGBM needs it"),
        ("configuration", lambda: _configuration(config), f"mend it; {SETTINGS / 'default.yaml'} explains every key"),
        ("PRICING_HOME", _home, "set it to a folder of yours, or mend its rights"),
        ("tracking store", _tracking, "start it, or mend MLFLOW_TRACKING_URI"),
        ("PRICING_DATABASE_URL", _database, "start it, or mend the address"),
    )
    for name, check, advice in checks:
        try:
            word = "ok"
            found = check()
        except (PricingError, OSError, ImportError) as error:
            word = "problem"
            found = f"{error} → {advice}"
            faults.append(name)
        print(redact_text(f"{word:<7}  {name} {found}"))  # noqa: T201
    print("\nnothing that is needed is missing" if not faults else f"\nto mend: {', '.join(faults)}")  # noqa: T201
    return EXIT_KNOWN_ERROR if faults else 0


def _openmp() -> str:
    """Loads the OpenMP library that LightGBM is linked with and does not bring, where LightGBM is installed."""
    if importlib.util.find_spec("lightgbm") is None:
        return "is not needed: LightGBM is not installed"
    return ctypes.CDLL("libomp.dylib" if sys.platform == "darwin" else "libgomp.so.1")._name


def _configuration(path: str | None) -> str:
    from pricing.config import DEFAULT_PATH, load_config  # noqa: PLC0415 - packages may be missing

    load_config(path)
    return str(path or DEFAULT_PATH)


def _home() -> str:
    """Writes a file in PRICING_HOME, or where it is not made yet in the folder that it would be made in."""
    folder = pricing_home()
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(one))
    with tempfile.NamedTemporaryFile(dir=there, prefix=".pricing-doctor-"):
        return str(folder)


def _tracking() -> str:
    uri = tracking_uri()
    path = Path(uri.removeprefix(SQLITE)).absolute()
    if uri.startswith(SQLITE) and not path.parent.is_dir():
        raise ConfigError(f"{uri}: there is no folder {path.parent}")
    if uri.startswith(SQLITE) and not path.exists():
        return f"{uri} (the first job makes it)"
    from pricing.runtime.mlflow_runs import check_reachable  # noqa: PLC0415 - importing MLflow takes a second

    check_reachable(uri)
    return uri


def _database() -> str:
    url = given_database_url()
    if url is None:
        return "is not set: promotions are recorded in PRICING_HOME"
    from pricing.registry.database import database_errors, open_engine  # noqa: PLC0415 - packages may be missing

    with database_errors(f"{redact_url(url)}: the record of promotions"):
        open_engine(url).connect().close()
    return redact_url(url)
