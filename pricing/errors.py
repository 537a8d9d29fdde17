"""The library's typed errors. Each message says what was expected, what was found, where, and what to do."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

SIMULATED = "simulated"  # the name of the built-in simulated market as an option's value
ETL = "etl"  # that of what `etl` made of the tables that the configuration's section `etl` names
NO_SALES = (
    "no sales are named: give --sales WHERE (under mlflow run -P sales=WHERE, under make SALES=WHERE): a CSV or "
    "Parquet file or folder, an s3:// address or an SQLAlchemy URL; "
    f"--sales {ETL}, what etl made of the tables that your configuration names (docs/shop/data.md); "
    f"or --sales {SIMULATED}, the built-in simulated market"
)

# Exit codes of jobs.
EXIT_BUG = 1  # as Python itself ends a program with a traceback
EXIT_KNOWN_ERROR = 2
EXIT_REFUSED = 3  # promote: a gate refused the version
EXIT_NOT_PUBLISHED = 4  # what the job changed is in force, and serving does not know of it yet: `pricing publish`
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class PricingError(Exception):
    """Base of every error that a user can fix; a program prints it as one line and exits 2."""

    told = False  # an alert has said so (`pricing.runtime.alerts`)


class ConfigError(PricingError):
    """A configuration key or value that cannot be used."""


class SourceError(PricingError):
    """A file, folder, table or URL that cannot be read as sales."""


@dataclass(frozen=True)
class Violation:
    """One rule of the data contract that some rows break."""

    rule: str  # in words, such as "price must be above 0"
    count: int  # rows that break it; 0 for a fault of the whole table, such as a missing column
    first: str  # the first offender in words: its row number, product and date, and the value found

    def __str__(self) -> str:
        rows = f"{self.count} row(s), first: " if self.count else ""
        return f"  - {self.rule}: {rows}{self.first}"


class ContractError(PricingError):
    """Sales that break the data contract; lists every violation with its count and first offender."""

    def __init__(self, where: str, violations: Sequence[Violation]) -> None:
        self.where = where
        self.violations = tuple(violations)
        lines = [f"{where} breaks the data contract in {len(self.violations)} way(s):", *map(str, self.violations)]
        mendable = any(violation.count for violation in self.violations)
        lines.append(
            "Rows are counted from 1, without the header. Mend them, or set the bad ones aside with --quarantine DIR."
            if mendable
            else "Mend the table: README.md lists the columns of the contract."
        )
        super().__init__("\n".join(lines))


class PlanError(PricingError):
    """A user's calendar file that cannot be used; lists every fault with its count and first offender."""

    def __init__(self, where: str, *, key: str, violations: Sequence[Violation]) -> None:
        lines = [f"{where}, which {key} names, cannot be used:", *map(str, violations)]
        lines.append(f"Mend the file (docs/shop/calendar.md has its columns), or take {key} out of the configuration.")
        super().__init__("\n".join(lines))


class MissingRowsError(PricingError):
    """Periods without a row, where the configuration does not say what they mean or refuses them."""


class HistoryError(PricingError):
    """Too little history for what was asked."""


class TrainingError(PricingError):
    """A training that did not converge."""


class VersionError(PricingError):
    """A model version that cannot be read, is damaged, or belongs to another contract."""


class RegistryError(PricingError):
    """A registry that does not answer, or has no such model, version or alias."""


class RequestError(PricingError):
    """A price request that cannot be understood."""


class UnknownProductError(RequestError):
    """A product that is unknown: nothing says how dear it is, or the request asks to be refused then (`strict`)."""

    def __init__(self, product_id: str) -> None:
        self.product_id = product_id
        super().__init__(
            f"product_id: nothing is known of {product_id!r}; a request that is not strict is priced where it gives a "
            "current_price, list_price, unit_cost or known category"
        )


class ConflictError(PricingError):
    """Somebody else decided meanwhile; `changed` says of each product what, who and when."""

    def __init__(self, changed: Mapping[str, str]) -> None:
        self.changed = changed
        super().__init__("; ".join(f"{product}: {word}" for product, word in changed.items()))


class DeliveryError(PricingError):
    """An alert, metric or job command that could not be delivered."""


class LockError(PricingError):
    """Another process holds the lock that this job needs."""


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that no handler of ordinary errors swallows it."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none; libraries append whole responses."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The known name most similar to `name`; None where no similarity reaches `cutoff`, 0 to 1."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)
