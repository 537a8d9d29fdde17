"""The configuration's section `etl`: where a shop's tables lie, and what their columns are called."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import Field, ValidationError, model_validator

from etl.competitors import CompetitorSettings, SourceName
from etl.http import Settings
from pricing.errors import ConfigError, nearest
from pricing.fileio import HIDDEN

Kind = Literal["time", "day", "number", "text"]
TYPES: dict[Kind, str] = {"time": "TIMESTAMP", "day": "DATE", "number": "DOUBLE", "text": "VARCHAR"}
_TABLES = {  # our columns of each table; those with ! must be there
    "sales": "date! product_id! units_sold! price! category list_price unit_cost stock available comp_price "
    "comp_price_age is_promo is_holiday tax_rate parent_id name",
    "order_lines": "time! product_id! quantity! unit_price amount discount list_price line_id status tax_rate "
    "store updated",
    "stock": "time! product_id! quantity! store",
    "products": "product_id! category list_price unit_cost price tax_rate parent_id name valid_from",
    "promotions": "first! last! product_id category store",
    "deliveries": "product_id! date! store",
    "events": "date! name! last_date category",
    "competitors": "seen_at! product_id! price! source offer_id available",
}
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("time", "updated", "seen_at"), "time"),
    **dict.fromkeys(("date", "valid_from", "first", "last", "last_date"), "day"),
    **dict.fromkeys(("product_id", "parent_id", "line_id", "offer_id"), "text"),
    **dict.fromkeys(("category", "status", "store", "name", "source"), "text"),
}
COLUMNS = {
    table: {name.rstrip("!"): _KINDS.get(name.rstrip("!"), "number") for name in names.split()}
    for table, names in _TABLES.items()
}
"""Our columns of each table, and how their cells are read."""
NEEDED = {table: [name[:-1] for name in names.split() if name.endswith("!")] for table, names in _TABLES.items()}
"""Those that must be there."""
CLOCKS = {"order_lines": "time", "stock": "time", "competitors": "seen_at"}
"""The column that tells how recent a row is, of tables that a night reads the last days of."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAMED_ONLY = ("store",)  # read only where `columns` names it: it makes a series of each store


class TableSettings(Settings):
    """One table.

    Attributes:
        location: A CSV or Parquet file, folder or pattern, local or `s3://`; or a database URL with `#table` or
            `#SELECT …`. `${NAME}` is an environment variable.
        columns: Their names by ours, where they differ.
        query: A file with one SELECT over `raw`, the table as it is there, which gives our columns.
        delimiter: Of a CSV file.
        decimal: Its decimal mark; with a comma, points part thousands.
        date_format: Its dates and times, such as %d/%m/%Y; null: ISO 8601.
    """

    location: Annotated[str, Field(min_length=1)]
    columns: dict[str, str] = Field(default_factory=dict)
    query: Path | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    decimal: Literal[".", ","] = "."
    date_format: Annotated[str, Field(pattern="%")] | None = None

    def named(self, table: str, there: list[str]) -> dict[str, str]:
        """Our columns that a table has: their name by ours.

        Raises:
            ConfigError: A column that `columns` names, or one that is needed, is not there.
        """
        found = {
            name: self.columns.get(name, name)
            for name in COLUMNS[table]
            if name in self.columns or (name in there and name not in _NAMED_ONLY)
        }
        for name in (*found, *NEEDED[table]):
            theirs = self.columns.get(name, name)
            if theirs not in there:
                near = nearest(theirs, there)
                hint = f"; is it {near!r}? Then write columns: {{{name}: {near}}}" if near else ""
                raise ConfigError(
                    f"etl.tables.{table}: expected a column {theirs!r}, found {', '.join(there) or 'none'}{hint}"
                )
        return found


class Tables(Settings):
    """A shop's tables: order lines and what stands beside them, or finished rows alone."""

    sales: TableSettings | None = None
    order_lines: TableSettings | None = None
    stock: TableSettings | None = None
    products: TableSettings | None = None
    promotions: TableSettings | None = None
    deliveries: TableSettings | None = None
    events: TableSettings | None = None
    competitors: TableSettings | None = None

    def given(self) -> dict[str, TableSettings]:
        """The tables that are named, in the order in which they are read."""
        tables = {name: getattr(self, name) for name in COLUMNS}
        return {name: table for name, table in tables.items() if table is not None}

    @model_validator(mode="after")
    def _known_columns(self) -> Self:
        for name, table in self.given().items():
            for ours in table.columns:
                if ours not in COLUMNS[name]:
                    near = nearest(ours, COLUMNS[name])
                    hint = f"did you mean {near}?" if near else f"known are {', '.join(COLUMNS[name])}"
                    raise ValueError(f"{name}.columns: {ours!r} is no column that is read here; {hint}")
        return self


class EtlSettings(Settings):
    """The section `etl`.

    Attributes:
        tables: Where the tables lie.
        apis: Competitors' price APIs, by name.
    """

    tables: Tables
    apis: dict[SourceName, CompetitorSettings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_kind_of_sales(self) -> Self:
        given = self.tables.given()
        if ("sales" in given) == ("order_lines" in given):
            raise ValueError("expected either order_lines or sales, which are finished rows")
        beside = [name for name in ("stock", "products", "competitors") if name in given] + list(self.apis)
        if "sales" in given and beside:
            raise ValueError(f"{beside[0]} goes with order_lines; finished rows hold what it says already")
        return self


def read_settings(section: Mapping[str, Any] | None) -> EtlSettings:
    """Checks the section.

    Raises:
        ConfigError: It is absent or wrong; no value is quoted, since one may hold a password.
    """
    if section is None:
        raise ConfigError("the configuration has no section etl, which says where your tables lie (docs/shop/data.md)")
    try:
        return EtlSettings.model_validate(section)
    except ValidationError as error:
        words = {"extra_forbidden": "is no setting here (docs/shop/data.md lists them)"}
        faults = []
        for fault in error.errors():
            message = words.get(fault["type"], fault["msg"].removeprefix("Value error, "))
            faults.append(f"etl.{'.'.join(map(str, fault['loc']))}: {message}")
        raise ConfigError("; ".join(dict.fromkeys(faults))) from None


def expanded(location: str, environ: Mapping[str, str], *, where: str) -> str:
    """A location with its variables filled in; in the login of an address they are escaped.

    Raises:
        ConfigError: A variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        if not environ.get(match[1]):
            raise ConfigError(f"{where}: the environment variable {match[1]} is not set")
        before = location[: match.start()]
        after = location[match.end() :]
        login = "://" in before and "/" not in before.partition("://")[2] and "@" in after.partition("/")[0]
        return quote(environ[match[1]], safe="") if login else environ[match[1]]

    return _VARIABLE.sub(value, location)


def hidden(text: str, location: str, environ: Mapping[str, str]) -> str:
    """A text without what a location's variables hold; of an address, without what may be its password."""
    for name in _VARIABLE.findall(location):
        value = environ.get(name, "")
        secret = value.partition("://")[2].partition(":")[2].rpartition("@")[0] if "://" in value else value
        # A mistyped address is taken apart at other places than meant.
        for word in sorted({secret, *re.findall(r"\w{3,}", secret)} - {""}, key=len, reverse=True):
            text = text.replace(word, HIDDEN)
    return text
