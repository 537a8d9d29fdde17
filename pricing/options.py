"""A command line as strict as `mlflow run` needs it: what is empty is absent, what is unknown is refused by name."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from pricing.errors import NO_SALES, PricingError, nearest

_TRUE = ("true", "yes", "1", "on")
_FALSE = ("false", "no", "0", "off")


class UsageError(PricingError):
    """A command line that cannot be understood; names the option at fault and the nearest known one."""


class Options(argparse.ArgumentParser):
    """An argument parser as strict as `mlflow run` needs it.

    `mlflow run` passes every declared parameter, an absent one as an empty string, and appends an undeclared
    `-P key=value` as `--key value`. So an empty value counts as not given, and an unknown option is refused by name.
    """

    def __init__(self, prog: str, description: str | None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        self._needs_sales = False

    def add_sales(self, *, needed: bool = True) -> None:
        """Adds --sales; where it is `needed`, a command line without it is refused: no job makes up its sales."""
        self._needs_sales = needed
        self.add_argument(
            "--sales",
            metavar="WHERE",
            help="CSV or Parquet (file or folder), SQLAlchemy URL, s3://, completejourney (grocery sales), or "
            "simulated (the built-in market)",
        )

    def add_flag(self, name: str, *, help: str) -> None:
        """Adds a switch that may stand alone or take true/false, since `mlflow run` always passes a value."""
        self.add_argument(name, nargs="?", const=True, default=False, type=_switch, metavar="true|false", help=help)

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Reads the options; `argv` is sys.argv's tail when None.

        Raises:
            UsageError: An option is unknown, lacks its value, has one of the wrong kind, or a required one is absent.
        """
        given = self._without_empty_values(list(sys.argv[1:] if argv is None else argv))
        options, unknown = self.parse_known_args(given)
        if unknown:
            raise UsageError(self._explain_unknown(unknown))
        if self._needs_sales and options.sales is None:
            raise UsageError(NO_SALES)
        return options

    def error(self, message: str) -> NoReturn:
        """Raises instead of printing the usage and leaving, so that a run can record why it failed.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{message}; see {self.prog} --help")

    def _without_empty_values(self, argv: list[str]) -> list[str]:
        known = self._option_string_actions
        kept: list[str] = []
        position = 0
        while position < len(argv):
            word = argv[position]
            if word in known and argv[position + 1 : position + 2] == [""]:
                position += 2
                continue
            if not (word.endswith("=") and word[:-1] in known):
                kept.append(word)
            position += 1
        return kept

    def _explain_unknown(self, unknown: Sequence[str]) -> str:
        known = [name for name in self._option_string_actions if name.startswith("--")]
        names = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        if not names:
            return f"unexpected argument {unknown[0]!r}: every value follows an option; see {self.prog} --help"
        parts = []
        for name in names:
            near = nearest(name.replace("-", "_"), known, cutoff=0.0)
            parts.append(f"unknown option {name}" + (f", the nearest known one is {near}" if near else ""))
        return "; ".join(parts) + f"; see {self.prog} --help"


def at_least(least: int) -> Callable[[str], int]:
    """Makes the type of an option that is a whole number of at least `least`."""

    def read(word: str) -> int:
        if not word.lstrip("-").isdigit() or int(word) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, found {word!r}")
        return int(word)

    return read


def positive(word: str) -> float:
    """Reads an option that is a number above 0."""
    return _number(word, zero=False)


def not_negative(word: str) -> float:
    """Reads an option that is a number of at least 0."""
    return _number(word, zero=True)


def _number(word: str, *, zero: bool) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf or (number == 0 and not zero):
        raise argparse.ArgumentTypeError(f"expected a number {'of at least' if zero else 'above'} 0, found {word!r}")
    return number


def _switch(word: str) -> bool:
    if word.lower() in _TRUE:
        return True
    if word.lower() in _FALSE:
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, found {word!r}")
