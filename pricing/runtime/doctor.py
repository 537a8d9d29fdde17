"""Says what is missing on this machine, and what to do about each thing.

Every line is `ok`, `missing` or `problem`. Exit code 0 when nothing that is needed is missing, else 2. What only some
people need, such as Docker, is shown and changes nothing. Packages are pip's: it installs what an extra needs.
"""

import argparse
import ctypes
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pricing import __version__
from pricing.errors import ConfigError, PricingError
from pricing.fileio import redact_text, redact_url
from pricing.paths import CHECKOUT, CODE, SETTINGS, SQLITE, pricing_home, tracking_uri
from pricing.runtime.cli import EXIT_KNOWN_ERROR, Options, run_main
from pricing.runtime.shared_state import given_database_url

OPTIONAL_PROGRAMS = {
    "docker": (("docker",), "builds the images and runs `docker compose`; install Docker Engine if you want them"),
    "chromium": (
        ("chromium", "chromium-browser", "google-chrome"),
        "tests of the pages use it; install chromium if you run them",
    ),
}


@dataclass(frozen=True)
class CheckResult:
    """One line of the report.

    Attributes:
        status: Whether it is there and right, not there, or there and wrong.
        text: What was looked at, and what was found.
        advice: What to do; empty where all is well.
        needed: Whether the exit code counts it.
    """

    status: Literal["ok", "missing", "problem"]
    text: str
    advice: str = ""
    needed: bool = True

    def line(self) -> str:
        """The finding as it is printed; an address in it names no user and no password."""
        words = f"{self.status:<7}  {self.text}" + (f" → {self.advice}" if self.advice else "")
        return redact_text(words)


def main(argv: Sequence[str] | None = None) -> int:
    """Looks and prints; returns the exit code."""
    return run_main(_doctor, argv)


def _doctor(argv: Sequence[str] | None) -> int:
    return report(findings(_options(argv).config), show=print)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    options = Options("pricing doctor", "Says what is missing on this machine, and what to do.")
    options.add_argument("--config", metavar="FILE", help="a configuration to check; absent: PRICING_CONFIG's, if any")
    return options.parse(argv)


def findings(config: str | None) -> Iterator[CheckResult]:
    """Looks at everything, one after another.

    Args:
        config: The configuration file; None for that of PRICING_CONFIG, or the default one.
    """
    yield CheckResult("ok", f"pricing {__version__} in {CODE}")
    if _is_installed("lightgbm"):
        yield openmp_finding(ctypes.CDLL)
    given = config or os.environ.get("PRICING_CONFIG") or None
    settings, found = config_finding(given)
    yield found
    yield home_finding(pricing_home())
    yield from tracking_findings(tracking_uri(), model_name=settings)
    try:
        yield from database_findings(given_database_url(), connect=_open_database)
    except ConfigError as error:
        yield CheckResult("problem", str(error), "mend the address")
    for name, (commands, use) in OPTIONAL_PROGRAMS.items():
        yield program_finding(name, commands, use=use, which=shutil.which)


def report(found: Iterable[CheckResult], *, show: Callable[[str], None]) -> int:
    """Prints each finding as it comes, and what they amount to; returns the exit code."""
    faults = 0
    for finding in found:
        show(finding.line())
        faults += finding.needed and finding.status != "ok"
    if faults:
        show(f"\n{faults} thing(s) that are needed are missing or wrong; what to do stands behind each")
        return EXIT_KNOWN_ERROR
    show("\nnothing that is needed is missing")
    return 0


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def openmp_finding(load: Callable[[str], object]) -> CheckResult:
    """Whether the system has the OpenMP library that LightGBM is linked with and does not bring."""
    name = "libomp.dylib" if sys.platform == "darwin" else "libgomp.so.1"
    try:
        load(name)
    except OSError:
        advice = "brew install libomp" if sys.platform == "darwin" else "apt-get install libgomp1"
        return CheckResult("missing", f"{name}, without which LightGBM cannot be imported", advice)
    return CheckResult("ok", f"{name} for LightGBM")


def config_finding(where: str | None) -> tuple[str | None, CheckResult]:
    """The registered model's name that a configuration gives, None where it is not valid; and the line about it."""
    try:
        from pricing.config import DEFAULT_PATH, load_config  # noqa: PLC0415 - packages of the base may be missing

        name = load_config(where).registry.model_name
    except PricingError as error:
        return None, CheckResult(
            "problem", f"configuration {error}", f"mend it; {SETTINGS / 'default.yaml'} explains every key"
        )
    except ImportError as error:
        return None, _unchecked("configuration", error)
    return name, CheckResult("ok", f"configuration {where or DEFAULT_PATH}")


def home_finding(home: Path) -> CheckResult:
    """Whether PRICING_HOME, or where it is not made yet the folder that it would be made in, can be written."""
    home = home.absolute()
    there = next(folder for folder in (home, *home.parents) if folder.exists() or folder.is_symlink())
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".pricing-doctor-"):
            pass
    except OSError as error:
        text = f"PRICING_HOME {home} cannot be written ({there}: {error.strerror})"
        return CheckResult("problem", text, "set PRICING_HOME to a folder of yours, or mend its rights")
    return CheckResult("ok", f"PRICING_HOME {home}" + ("" if home.exists() else " (will be made)"))


def tracking_findings(uri: str, *, model_name: str | None) -> Iterator[CheckResult]:
    """Whether the tracking store answers, and whether its registry has a champion.

    Nothing is made: a local database that is not there yet is made by the first job.

    Args:
        uri: Of the tracking store.
        model_name: The registered model; None where no configuration says it, so that it is not looked for.
    """
    if not _is_installed("mlflow"):
        return
    shown = redact_url(uri)
    path = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None
    if path is not None and not path.exists():
        if not path.absolute().parent.is_dir():
            text = f"tracking store {shown} cannot be made: there is no folder {path.absolute().parent}"
            yield CheckResult("problem", text, "make the folder, or mend MLFLOW_TRACKING_URI")
            return
        yield CheckResult("ok", f"tracking store {shown} (the first job makes it)")
        yield no_champion(model_name)
        return
    try:
        from pricing.runtime.mlflow_runs import check_reachable  # noqa: PLC0415 - importing MLflow takes a second

        check_reachable(uri)
    except PricingError as error:
        yield CheckResult("problem", f"tracking store {error}", "start it, or mend MLFLOW_TRACKING_URI")
        return
    except ImportError as error:
        yield _unchecked("tracking store", error)
        return
    yield CheckResult("ok", f"tracking store {shown}")
    if model_name is not None:
        yield champion_finding(lambda: _champion(model_name, uri=uri), model_name=model_name)


def champion_finding(find: Callable[[], str | None], *, model_name: str) -> CheckResult:
    """Whether there is a champion.

    Args:
        find: Gives its number, None where there is none; may raise a PricingError.
        model_name: The registered model.
    """
    try:
        number = find()
    except PricingError as error:
        return CheckResult(
            "problem", f"champion of {model_name}: {error}", "see that the registry lets this machine in"
        )
    except ImportError as error:
        text = f"champion of {model_name}: a local registry cannot be read without {error.name}"
        return CheckResult(
            "problem", text, "install the extra training, or let MLFLOW_TRACKING_URI name an MLflow server"
        )
    return (
        no_champion(model_name) if number is None else CheckResult("ok", f"champion of {model_name}: version {number}")
    )


def no_champion(model_name: str | None) -> CheckResult:
    """There is none, so every price is given by rule: no fault of this machine."""
    text = f"champion of {model_name}" if model_name else "champion"
    commands = "`make train`, `make promote`" if CHECKOUT else "`pricing train`, `pricing promote`"
    advice = f"until a version is trained and promoted ({commands}), the service keeps every price by rule"
    return CheckResult("missing", text, advice, needed=False)


def _champion(model_name: str, *, uri: str) -> str | None:
    from pricing.registry import CHAMPION  # noqa: PLC0415 - importing MLflow takes a second
    from pricing.registry.mlflow_registry import Registry  # noqa: PLC0415

    entry = Registry(model_name, uri=uri).at(CHAMPION)
    return None if entry is None else entry.number


def database_findings(url: str | None, *, connect: Callable[[str], None]) -> Iterator[CheckResult]:
    """Whether the database that promotions are recorded in answers, where one is named.

    Args:
        url: PRICING_DATABASE_URL; None where it is not set, since the record is then a file under PRICING_HOME.
        connect: Opens and closes it; raises a PricingError where it cannot.
    """
    if url is None:
        return
    try:
        connect(url)
    except PricingError as error:
        yield CheckResult("problem", f"PRICING_DATABASE_URL {error}", "start it, or mend the address")
    except ImportError as error:
        yield _unchecked("PRICING_DATABASE_URL", error)
    else:
        yield CheckResult("ok", f"PRICING_DATABASE_URL {redact_url(url)}")


def _open_database(url: str) -> None:
    from pricing.runtime.mlflow_runs import probe_database  # noqa: PLC0415 - packages of the base may be missing

    probe_database(url, what="the record of promotions")


def program_finding(name: str, commands: Sequence[str], *, use: str, which: Callable[[str], str | None]) -> CheckResult:
    """Whether a program that only some people want is on PATH, by any of its commands."""
    found = next((path for path in map(which, commands) if path is not None), None)
    if found is None:
        return CheckResult("missing", f"{name} (optional)", use, needed=False)
    return CheckResult("ok", f"{name} {found}")


def _unchecked(what: str, error: ImportError) -> CheckResult:
    return CheckResult("problem", f"{what}: cannot be looked at without {error.name}", "install it, or its extra")


if __name__ == "__main__":
    sys.exit(main())
