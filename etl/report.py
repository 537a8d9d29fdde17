"""The report of a run of `etl`: lines for a terminal, JSON for the page of the job `etl`."""

from pydantic import BaseModel

NEUTRAL = (
    "cancelled",
    "repeated",
    "an earlier version",
    "of a day that is not over",
    "another row of its product and day",
)
"""Reasons of rows that are as they should be, and yet are not used."""
_NAMED = 4  # reasons in a line


class TableRead(BaseModel):
    """One table, or one API: read = used + all that is set aside.

    Attributes:
        location: Where it lies, as it was given: passwords are variables.
        read: Rows read.
        used: Rows used.
        aside: Reason: rows that are not used.
        examples: Reason: the first such row.
        told: How its files are written.
    """

    location: str
    read: int
    used: int
    aside: dict[str, int]
    examples: dict[str, str] = {}
    told: str = ""

    @property
    def bad(self) -> int:
        """Rows that cannot be used though they should be."""
        return sum(rows for reason, rows in self.aside.items() if reason not in NEUTRAL)


class Match(BaseModel):
    """How many rows of sales found their partner in another table, and how many products of both found none."""

    table: str
    rows: int
    matched: int
    sales_only: int
    table_only: int
    examples: list[str]


class Report(BaseModel):
    """The deeds of a run of `etl`, as far as it came.

    Attributes:
        first: The day from which rows were made anew; empty: all.
        tables: By name.
        matches: How tables met.
        rows: Rows made.
        products: Products in them.
        begins: First day of those rows.
        ends: Last day.
        returned: Units that came back since the run before.
        left_out: Of them, those without an earlier sale at their price: of a night they may be of older sales.
        discounted: Share of order lines whose buyer paid less than the shelf price.
        taken_off: What these discounts are of revenue at shelf prices, a fraction.
        buyers: A lower price counts as the shelf's once so many buyers in a row paid it.
        between: Rows without a sale between sales at two prices, of which the earlier one is taken.
        advice: What to change in the tables' settings, since prices are uncertain as they are.
        faults: What cost the prices of a competitor's API, by its name.
        kept: True where the rows were kept: neither a dry run nor a failure.
        error: Why the run stopped; empty where it did not.
    """

    first: str = ""
    tables: dict[str, TableRead] = {}
    matches: list[Match] = []
    rows: int = 0
    products: int = 0
    begins: str = ""
    ends: str = ""
    returned: float = 0.0
    left_out: float = 0.0
    discounted: float = 0.0
    taken_off: float = 0.0
    buyers: int = 1
    between: int = 0
    advice: list[str] = []
    faults: dict[str, str] = {}
    kept: bool = False
    error: str = ""

    def lines(self) -> list[str]:
        """One fact a line."""
        found = []
        if self.rows:
            read = sum(table.read for table in self.tables.values())
            made = f"{self.rows:,} rows of {self.products:,} products, {self.begins} to {self.ends}"
            found.append(f"etl: {read:,} rows read; {made}, {'are' if self.kept else 'would be'} kept")
        for name, table in self.tables.items():
            told = f" ({table.told})" if table.told else ""
            found.append(f"read: {name}: {table.read:,} rows of {table.location}{told}, {table.used:,} used")
            worst = sorted(table.aside.items(), key=lambda reason: -reason[1])
            for reason, rows in worst[:_NAMED]:
                shown = f", first: {table.examples[reason]}" if reason in table.examples else ""
                found.append(f"set aside: {name}: {rows:,} rows: {reason}{shown}")
        for match in self.matches:
            lonely = f"; {', '.join(match.examples)}" if match.examples else ""
            found.append(f"join: {match.table} says something of {match.matched:,} of {match.rows:,} rows{lonely}")
        if self.discounted:
            found.append(
                f"prices: {self.discounted:.1%} of order lines are below the shelf price, by {self.taken_off:.1%} of "
                f"revenue: a lower price that fewer than {self.buyers} buyers in a row paid counts as their discount"
            )
        if self.between:
            found.append(
                f"prices: {self.between:,} of {self.rows:,} rows lie between sales at two prices and carry the earlier "
                "one: no sale shows the day of the change; products.price with valid_from would"
            )
        found += [f"prices: {advice}" for advice in self.advice]
        if self.left_out:
            older = f", or of one before {self.first}, until a run with --full" if self.first else ""
            units = f"{self.left_out:,.10g} of {self.returned:,.10g} units that came back"
            found.append(f"returns: {units} are of no sale at their price{older}: left out")
        return [*found, *(f"competitor: {name}: {why}" for name, why in self.faults.items())]
