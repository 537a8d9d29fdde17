"""What checks of sales and requests may find: names, levels, what to do, and the JSON file that jobs leave of it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pricing.errors import PricingError, SourceError
from pricing.fileio import replace_atomically

Level = Literal["note", "quarantine", "stop"]
LEVELS: tuple[Level, ...] = ("note", "quarantine", "stop")  # from the mildest on
FILE = "quality.json"
FORMAT = 1
PRICE_COLUMNS = ("price", "list_price", "unit_cost", "comp_price")

# name: (what it means, what to do). Names are for programs: they are never renamed. docs/data_quality.md lists them.
MEANINGS: Mapping[str, tuple[str, str]] = {
    "price_unit": (
        "most prices of a category, or of the shop, moved together further than any sale or inflation moves them",
        "Bring all prices into one unit, such as euros and not cents",
    ),
    "pack_size": (
        "the prices of a category rose and its units fell by about the same factor: packs are counted, not units",
        "Deliver units and the price of one unit, as before",
    ),
    "price_outlier": (
        "single prices lie far outside all that their product asked lately",
        "Look at the rows that were set aside; mend the feed where they are wrong",
    ),
    "price_typo": (
        "single prices are 10, 100 or 1000 times, or that fraction of, those around them",
        "Mend them",
    ),
    "units_unit": (
        "a category sells many times what such days sold, or a small fraction of it",
        "Bring units into one unit, such as pieces and not cases; if demand was that strong, accept it",
    ),
    "units_outlier": (
        "rows sell very many times the median of their product",
        "Check them: a total, a number of another column or one large order would pass for demand",
    ),
    "competitor_price": (
        "the competitor's prices of most products are far off the own ones",
        "Bring them into the unit and pack size of the own prices, or leave comp_price empty",
    ),
    "comp_price_frozen": (
        "no competitor price has changed for longer than ever before",
        "Look at the feed of competitor prices: it repeats old ones",
    ),
    "competitor_feed": (
        "a competitor's API gave nothing, only a part of its prices, or old ones",
        "Look at what the run of etl says of it; until it answers, the prices seen last count, up to a configured age",
    ),
    "stock_frozen": (
        "no stock has changed for longer than ever before",
        "Look at the feed of stock: it repeats old counts",
    ),
    **{
        f"{column}_null": (
            f"{column} is missing on many more rows than on such days before",
            f"Look at where {column} comes from",
        )
        for column in ("comp_price", "stock", "unit_cost", "list_price", "is_promo", "category")
    },
    "stock_zero": ("stock is 0 on many more rows than on such days before", "Look at the feed of stock"),
    "promo_none": (
        "nothing has been advertised for longer than ever before",
        "Look at where is_promo comes from; a real pause needs nothing",
    ),
    "column_gone": ("a column that the champion has learnt from is not in the sales", "Deliver it again"),
    "column_renamed": (
        "a column is not in the sales, but one with a similar name is",
        "Give it the name of the contract",
    ),
    "lost_days": (
        "days without any row or sale, beyond closing days and holidays",
        "Read them again if rows were lost; where the shop was closed nothing is to be done",
    ),
    "day_incomplete": (
        "the newest days hold far fewer rows than such days before: they were read before they were complete",
        "Start the night after the day is loaded; the days are read again next time",
    ),
    "products_missing": (
        "many products that had a row on almost every day have had none for days",
        "Look for the missing part of the feed, such as a store or a category; if they were delisted, accept it",
    ),
    "ids_changed": (
        "many products go on under ids that nobody knew",
        "Deliver the former ids, or give the history the new ones and train anew",
    ),
    "renamed": (
        "single products may go on under another id",
        "If they are the same, give both one id: what was learnt of the old one is lost to the new one",
    ),
    "dates_swapped": (
        "the newest rows bear dates whose day and month are swapped",
        "Write dates as YYYY-MM-DD",
    ),
    "rows_doubled": ("rows occur more than once", "Look for a join or a load that ran twice"),
    "contract": ("rows break the data contract", "Mend them; README.md lists the columns"),
    "too_many_bad_rows": (
        "more rows would be set aside than a feed that is sound has faults",
        "Mend the feed: what is left of it is no fair sample",
    ),
    "category_spelling": (
        "categories differ only in case or blanks from another one",
        "They are learnt as separate categories: write each in one way",
    ),
    "stock_not_at_opening": (
        "many rows sell more than their stock",
        "stock is what is there at opening: if this is what was left at closing, give the day before's",
    ),
    "days_left_out": ("days are left out because data.quality.leave_out says so", "Nothing"),
    "request_comp_price_null": (
        "requests come without the competitor's price far more often than before",
        "Look at what the shop sends as comp_price",
    ),
    "request_comp_price_frozen": (
        "no competitor price in requests has changed for longer than ever before",
        "Look at what the shop sends as comp_price: it repeats old prices",
    ),
    "request_stock_zero": (
        "requests say that nothing is in stock far more often than before",
        "Look at what the shop sends as current_stock",
    ),
    "prices_overridden": (
        "almost no recommended price is the current price a day later: they are not put on the shelf",
        "Ask who sets other prices, or whether prices reach the tills",
    ),
    "sales_late": (
        "decisions go on, but their sales have not come",
        "Look at the feed of sales",
    ),
    "decisions_late": (
        "sales go on, but nothing has been decided",
        "Look at serving, batch pricing and their log",
    ),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is probably wrong with sales or requests.

    Attributes:
        name: A key of MEANINGS.
        level: note: it is said; quarantine: rows or values are set aside and count as unknown, the rest goes on, and a
            person should look; stop: the job ends, and the champion and its states stay as they are.
        text: What was found, one sentence without full stop.
        advice: What to do.
        column: The column at fault; empty where it is no single one.
        first_day: The first day it was found on, YYYY-MM-DD; empty where it is about no day.
        last_day: The newest day it was found on, where it is about single rows of any days; else empty.
        products: Products affected; 0 where it is not about products.
        rows: Rows affected.
        share: Share of the rows, products or decisions that could be affected, 0 to 1.
        examples: The first offenders, in words.
    """

    name: str
    level: Level
    text: str
    advice: str = ""
    column: str = ""
    first_day: str = ""
    products: int = 0
    rows: int = 0
    share: float = 0.0
    examples: tuple[str, ...] = ()
    last_day: str = ""

    def __str__(self) -> str:
        """What was found, where, and what to do, in one or two sentences."""
        where = f", first {'; '.join(self.examples)}" if self.examples else ""
        return f"{self.text}{where}. {self.advice}".rstrip()


@dataclass(frozen=True)
class Quality:
    """What the checks of one read of the sales found.

    Attributes:
        findings: The gravest first.
        until: Last day of the sales, YYYY-MM-DD; empty where no row could be read.
        rows: Rows read.
        set_aside: Rows of these that were set aside.
        bad_rows: File with the rows set aside; empty where there is none.
    """

    findings: tuple[Finding, ...] = ()
    until: str = ""
    rows: int = 0
    set_aside: int = 0
    bad_rows: str = ""

    @property
    def level(self) -> Level | None:
        """The gravest level found; None without a finding."""
        return max((one.level for one in self.findings), key=LEVELS.index, default=None)

    def of(self, *levels: Level) -> tuple[Finding, ...]:
        """The findings of these levels."""
        return tuple(one for one in self.findings if one.level in levels)

    def tags(self) -> dict[str, str]:
        """Tags of an MLflow run: the gravest level, and each finding's name with its level."""
        named = ", ".join(dict.fromkeys(f"{one.name} {one.level}" for one in self.findings))
        return {"quality": self.level or "fine", "quality_findings": named[:5000] or "none"}


class QualityError(PricingError):
    """Sales that lie too far from their own past to be learnt from or judged by.

    Attributes:
        quality: All that was found.
        findings: What is told of it: all but notes.
    """

    def __init__(self, where: str, quality: Quality) -> None:
        self.quality = quality
        self.findings = quality.of("quarantine", "stop")
        found = " Also, ".join(f"{one.name}: {one}." for one in quality.of("stop"))
        super().__init__(
            f"{where} is not as it was before, so nothing is learnt from it and the champion stays as it is. {found} "
            "If all is as it should be, accept it (data.quality.accept: {NAME: last day}); days that cannot be mended "
            "are left out by data.quality.leave_out"
        )


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The gravest first; of one name, column and level only the first."""
    kept: dict[tuple[str, str, str], Finding] = {}
    for one in findings:
        kept.setdefault((one.name, one.column, one.level), one)
    return tuple(sorted(kept.values(), key=lambda one: -LEVELS.index(one.level)))


def advice(name: str) -> str:
    """What to do about a finding of this name."""
    return MEANINGS[name][1]


def quality_file(panel: str | Path) -> Path:
    """The file beside a saved panel's folder that says what the checks found when it was made, or was not."""
    return Path(panel).with_name(f"{Path(panel).name}.{FILE}")


def save_quality(quality: Quality, path: str | Path) -> None:
    """Writes the JSON file, atomically.

    Raises:
        SourceError: It cannot be written.
    """
    try:
        with replace_atomically(Path(path)) as draft:
            draft.write_text(to_json(quality), encoding="utf-8")
    except OSError as error:
        raise SourceError(f"{path}: cannot be written ({error.strerror})") from error


def load_quality(path: str | Path) -> Quality:
    """Reads what `save_quality` wrote; fields of later releases are left out.

    Raises:
        SourceError: There is no such file, or it is none of these.

    Example:
        >>> from pricing.data.quality import Finding, Quality, load_quality, save_quality
        >>> found = Finding("stock_null", "quarantine", "stock is missing on 9 of 9 rows", column="stock")
        >>> save_quality(Quality((found,), until="2026-03-04", rows=9), "quality.json")
        >>> [(one.name, one.level) for one in load_quality("quality.json").findings]
        [('stock_null', 'quarantine')]
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise SourceError(f"{path}: is of format {document['format']}, expected {FORMAT}; run the job again")
        found = tuple(
            Finding(**_known(Finding, one) | {"examples": tuple(one.get("examples", ()))})
            for one in document["findings"]
        )
        return Quality(**_known(Quality, document) | {"findings": found})
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: holds no findings of data quality ({error}); run the job again") from error


def to_json(quality: Quality) -> str:
    """The JSON text of a result."""
    document = {"format": FORMAT, "level": quality.level, **asdict(quality)}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _known(kind: type[Finding] | type[Quality], values: Mapping[str, Any]) -> dict[str, Any]:
    names: Sequence[str] = [field.name for field in fields(kind)]
    return {name: values[name] for name in names if name in values}
