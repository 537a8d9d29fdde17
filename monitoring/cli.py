"""The command line of monitoring: strict options, local places, and how an error leaves the program."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pricing.errors import PricingError
from pricing.options import Options, UsageError
from pricing.output import reader_may_leave
from pricing.places import pricing_home

__all__ = ["Options", "UsageError", "home", "options", "run_main"]

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


def options() -> Options:
    """Makes the parser of `python -m monitoring`."""
    parser = Options(
        "python -m monitoring",
        "Compares decisions with the sales that followed, reports drift and decay, and says what to do.",
    )
    parser.add_sales()
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
    """Where what monitoring keeps lies: PRICING_HOME, or .pricing at the root."""
    return pricing_home()


def run_main(job: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Runs the job; a known error becomes one message on standard error and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("monitoring").setLevel(os.environ.get("PRICING_LOG_LEVEL", "INFO").upper())
    try:
        with reader_may_leave():
            return job(argv)
    except PricingError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
