"""The command line of monitoring: strict options, local places, and how an error leaves the program."""

import argparse
import difflib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from pricing.errors import PricingError

ROOT = Path(__file__).resolve().parent.parent
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


class UsageError(PricingError):
    """A command line that cannot be understood."""


class Options(argparse.ArgumentParser):
    """Takes what `mlflow run` passes: an empty value counts as not given, an unknown option is refused by name."""

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Reads the options; sys.argv's when `argv` is None.

        Raises:
            UsageError: An option is unknown (the nearest known one is named) or has a wrong value.
        """
        words = list(sys.argv[1:] if argv is None else argv)
        known = [name for name in self._option_string_actions if name.startswith("--")]
        given: list[str] = []
        while words:
            word = words.pop(0)
            if word in known and words[:1] == [""]:
                words.pop(0)
            elif not (word.endswith("=") and word[:-1] in known):
                given.append(word)
        options, unknown = self.parse_known_args(given)
        if unknown:
            name = unknown[0].partition("=")[0]
            near = difflib.get_close_matches(name.replace("-", "_"), known, n=1, cutoff=0.0)
            raise UsageError(f"unknown option {name}, the nearest known one is {near[0]}; see {self.prog} --help")
        return options

    def error(self, message: str) -> NoReturn:
        """Raises instead of leaving.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{message}; see {self.prog} --help")


def options() -> Options:
    """Makes the parser of `python -m monitoring`."""
    parser = Options(
        prog="python -m monitoring",
        description="Compares decisions with the sales that followed, reports drift and decay, and says what to do.",
        allow_abbrev=False,
    )
    parser.add_argument("--sales", metavar="WHERE", help="actual sales: CSV, Parquet, SQL address, s3://, …")
    parser.add_argument("--decisions", type=Path, metavar="DIR", help="decision log; absent: PRICING_HOME/decisions")
    parser.add_argument("--config", metavar="FILE", help="YAML laid over config/default.yaml")
    parser.add_argument("--quarantine", type=Path, metavar="DIR", help="write bad rows of the sales here and go on")
    parser.add_argument("--out", type=Path, metavar="DIR", help="pages go here; absent: PRICING_HOME/monitoring/latest")
    parser.add_argument("--until", metavar="DATE", help="look at the sales up to this day only, YYYY-MM-DD")
    parser.add_argument("--act", default="true", choices=("true", "false"), help="false: send and start nothing")
    parser.add_argument(
        "--exit_code", default="false", choices=("true", "false"),
        help="true: exit 10 when a refresh is due, 11 for a retraining, 12 when a person is needed",
    )  # fmt: skip
    return parser


def home() -> Path:
    """PRICING_HOME, or .pricing at the root."""
    return Path(os.environ.get("PRICING_HOME") or ROOT / ".pricing")


def run_main(job: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Runs the job; a known error becomes one message on standard error and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("monitoring").setLevel(os.environ.get("PRICING_LOG_LEVEL", "INFO").upper())
    try:
        return job(argv)
    except PricingError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
