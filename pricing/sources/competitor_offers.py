"""Competitors' offers: the reference format, adapters for other formats, and the table that both become."""

import datetime as dt
import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import numpy as np
import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr
from pydantic import ValidationError as PydanticError

from pricing.errors import ConfigError, SourceError, first_line, nearest

Text = Annotated[StrictStr, Field(max_length=200)]
Number = StrictFloat | StrictInt
CLOCK_SKEW = dt.timedelta(minutes=15)
"""How far ahead of ours a source's clock may be before its times count as wrong."""
TIME = "datetime64[us, UTC]"
# Column → dtype of a table of offers; seen_at and run_id are those of the call that first brought the offer.
COLUMNS: Mapping[str, str] = {
    "source": "string",
    "competitor": "string",
    "item": "string",
    "product_id": "string",
    "ean": "string",
    "item_id": "string",
    "price": "float64",
    "currency": "string",
    "in_stock": "boolean",
    "delivery_cost": "float64",
    "tax_included": "boolean",
    "tax_rate": "float64",
    "observed_at": TIME,
    "seen_at": TIME,
    "run_id": "string",
}
SET_ASIDE = (*COLUMNS, "reason", "found")
_TEXTS = ("competitor", "product_id", "ean", "item_id", "currency")
_IDS = ("item_id", "ean", "product_id")
_NUMBERS = ("price", "delivery_cost", "tax_rate")
_FLAGS = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}  # 1 and 0 are among them
_NEEDED = ("price", "currency", "observed_at")


class Offer(BaseModel):
    """One offer of the reference format; what is not listed here is passed over.

    Attributes:
        competitor: Who asks the price; needed unless the API's configuration names one for all.
        product_id: Our id of the product, where the source knows it.
        ean: GTIN of 8, 12, 13 or 14 digits.
        item_id: The competitor's own id, for a mapping table. One of the three ids is needed.
        price: What the shopper pays for a unit, without delivery, in `currency`.
        currency: ISO 4217 code.
        in_stock: Whether it can be bought; absent or null where unknown.
        delivery_cost: Cost of delivery of one unit, in `currency`; absent or null where unknown.
        tax_included: Whether `price` holds sales tax; then `tax_rate` is not needed.
        tax_rate: Rate by which a net price becomes what the shopper pays, a fraction.
        observed_at: When the price was seen at the competitor, with its offset from UTC.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    competitor: Text | None = None
    product_id: Text | None = None
    ean: Text | None = None
    item_id: Text | None = None
    price: Number
    currency: Text
    in_stock: StrictBool | None = None
    delivery_cost: Number | None = None
    tax_included: StrictBool = True
    tax_rate: Number | None = None
    observed_at: AwareDatetime


class _UndatedOffer(Offer):
    observed_at: AwareDatetime | None = None  # type: ignore[assignment]


class ReferenceAnswer(BaseModel):
    """A page of the reference format; the offers are read one by one, so that a bad one loses no others."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    offers: list[dict[str, Any]]
    next_cursor: StrictStr | None = None


@dataclass(frozen=True)
class AnswerPage:
    """What an adapter reads from one answer.

    Attributes:
        offers: One mapping per offer, with the keys of `Offer`.
        next_page: The next page's cursor or address; None on the last one, and for numbered pages.
    """

    offers: Sequence[Mapping[str, Any]]
    next_page: str | None = None


Adapter = Callable[[Any], AnswerPage]


@dataclass(frozen=True)
class OfferBatch:
    """Offers that can be used, and those that cannot, each with its reason.

    Attributes:
        offers: Columns of `COLUMNS`.
        set_aside: The same with `reason`, a code, and `found`, words.
    """

    offers: pd.DataFrame
    set_aside: pd.DataFrame


def reference_page(payload: Any) -> AnswerPage:
    """Reads one page of the reference format.

    Raises:
        ValueError: It has another form.
    """
    try:
        answer = ReferenceAnswer.model_validate(payload)
    except PydanticError as error:
        raise ValueError(_words(error)) from error
    return AnswerPage(answer.offers, answer.next_cursor or None)


ADAPTERS: Mapping[str, Adapter] = {"reference": reference_page}


def find_adapter(name: str) -> Adapter:
    """The adapter of that name, or the function at `module:function`, whose module is imported and so runs.

    Raises:
        ConfigError: There is none.
    """
    module, colon, function = name.partition(":")
    if not colon:
        if name not in ADAPTERS:
            near = nearest(name, ADAPTERS) or ", ".join(ADAPTERS)
            raise ConfigError(
                f"adapter {name} is not known; known is {near}, or give your own function as module:function"
            )
        return ADAPTERS[name]
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ImportError as error:
        raise ConfigError(
            f"adapter {name}: its module cannot be imported ({first_line(error)}); put it where Python finds it, "
            "such as in PYTHONPATH"
        ) from error
    if not callable(found):
        raise ConfigError(f"adapter {name}: {module} has no function {function}")
    return found  # type: ignore[no-any-return]


def read_offers(
    page: AnswerPage,
    *,
    source: str,
    fetched_at: dt.datetime,
    run_id: str,
    competitor: str | None = None,
    dated: bool = True,
) -> OfferBatch:
    """Reads the offers of one page; those that have another form are set aside with what is wrong.

    Args:
        page: From an adapter.
        source: Name of the API.
        fetched_at: When the answer came, UTC.
        run_id: Of the job.
        competitor: Whose the offers are that name none.
        dated: Whether an offer must say when it was observed; else it was when it was fetched.
    """
    model = Offer if dated else _UndatedOffer
    rows: list[dict[str, Any]] = []
    bad: list[dict[str, Any]] = []
    for given in page.offers:
        try:
            rows.append(model.model_validate(given).model_dump())
        except PydanticError as error:
            bad.append({**_texts_of(given), "reason": "schema", "found": _words(error)})
    frame = _typed(pd.DataFrame(rows), {"source": source, "seen_at": fetched_at, "run_id": run_id})
    frame["competitor"] = frame["competitor"].fillna(competitor) if competitor else frame["competitor"]
    frame["observed_at"] = frame["observed_at"].fillna(pd.Timestamp(fetched_at))
    checked = _checked(frame)
    if not bad:
        return checked
    unreadable = _typed(pd.DataFrame(bad), {"source": source, "seen_at": fetched_at, "run_id": run_id}, SET_ASIDE)
    return OfferBatch(checked.offers, _joined([unreadable, checked.set_aside]))


def offers_from_table(
    frame: pd.DataFrame,
    *,
    source: str,
    seen_at: dt.datetime,
    run_id: str,
    competitor: str | None = None,
    time_zone: str = "UTC",
) -> OfferBatch:
    """Reads offers from rows of a file or database whose columns are those of `Offer`.

    Args:
        frame: Columns price, currency, observed_at, one of product_id, ean and item_id, and any others of `Offer`; not
            modified. Numbers and times may be texts; ids should be.
        source: Name of the table.
        seen_at: When it was read, UTC.
        run_id: Of the job.
        competitor: Whose the rows are that name none.
        time_zone: Of times without an offset.

    Raises:
        SourceError: A needed column is missing.
    """
    missing = [name for name in _NEEDED if name not in frame.columns]
    if not {"product_id", "ean", "item_id"} & set(frame.columns):
        missing.append("product_id, ean or item_id")
    if "competitor" not in frame.columns and competitor is None:
        missing.append("competitor (or name one for the whole table)")
    if missing:
        raise SourceError(
            f"competitor table {source}: expected the columns {'; '.join(missing)}, found "
            f"{', '.join(map(str, frame.columns))}; map its columns in the configuration"
        )
    given = frame.reset_index(drop=True)
    read = pd.DataFrame(index=given.index)
    for name in _TEXTS:
        read[name] = _as_text(given[name]) if name in given else pd.NA
    for name in _NUMBERS:
        read[name] = pd.to_numeric(given[name], errors="coerce") if name in given else np.nan
    for name in ("in_stock", "tax_included"):
        read[name] = _as_flag(given[name]) if name in given else pd.NA
    read["observed_at"] = _as_time(given["observed_at"], time_zone)
    unread = _unread(given, read)
    typed = _typed(read, {"source": source, "seen_at": seen_at, "run_id": run_id})
    typed["competitor"] = typed["competitor"].fillna(competitor) if competitor else typed["competitor"]
    bad = typed[unread != ""].assign(reason="schema", found=unread[unread != ""])
    checked = _checked(typed[unread == ""])
    return OfferBatch(checked.offers, _joined([bad[list(SET_ASIDE)], checked.set_aside]))


def empty_offers(columns: Sequence[str] = tuple(COLUMNS)) -> pd.DataFrame:
    """A table of no offers."""
    return pd.DataFrame({name: pd.Series(dtype=COLUMNS.get(name, "string")) for name in columns})


def join_batches(batches: Sequence[OfferBatch]) -> OfferBatch:
    """One batch of several."""
    offers = _joined([each.offers for each in batches])
    return OfferBatch(offers, _joined([each.set_aside for each in batches], SET_ASIDE))


def count_reasons(set_aside: pd.DataFrame) -> dict[str, int]:
    """Reason → number of offers set aside for it, the most frequent first."""
    return {str(reason): int(count) for reason, count in set_aside["reason"].value_counts().items()}


def _joined(frames: Sequence[pd.DataFrame], columns: Sequence[str] = tuple(COLUMNS)) -> pd.DataFrame:
    kept = [frame for frame in frames if len(frame)]
    if not kept:
        return empty_offers(tuple(frames[0].columns) if frames else columns)
    return pd.concat(kept, ignore_index=True)


def _typed(frame: pd.DataFrame, constants: Mapping[str, Any], columns: Sequence[str] = tuple(COLUMNS)) -> pd.DataFrame:
    """The columns of a table of offers with their dtypes; absent ones are empty, and `item` is derived."""
    values = {name: frame[name] if name in frame else pd.Series(pd.NA, index=frame.index) for name in columns}
    values |= {name: pd.Series(value, index=frame.index) for name, value in constants.items()}
    typed = pd.DataFrame(index=frame.index)
    for name in columns:
        kind = COLUMNS.get(name, "string")
        column = values[name]
        if kind == TIME:
            column = pd.to_datetime(column, utc=True)
        elif kind == "float64":
            column = pd.to_numeric(column.astype(object).where(column.notna(), np.nan))
        typed[name] = column.astype(cast("Any", kind))
    for name in ("competitor", "product_id", "ean", "item_id"):
        typed[name] = _by_value(typed[name], _stripped)
    typed["tax_included"] = typed["tax_included"].fillna(True)
    # The competitor's own id first: two of its variants may share our id.
    keys = [_by_value(typed[name], functools.partial(_prefixed, kind=name)) for name in _IDS]
    typed["item"] = keys[0].fillna(keys[1]).fillna(keys[2])
    return typed


def _checked(frame: pd.DataFrame) -> OfferBatch:
    """Sets aside what no offer may be, whatever it came from."""
    price, cost, rate = frame["price"], frame["delivery_cost"], frame["tax_rate"]
    gross = frame["tax_included"].astype(bool)
    rules = {
        "no_competitor": (frame["competitor"].isna(), "competitor"),
        "no_id": (frame["item"].isna(), "item"),
        "price_not_above_zero": (~(np.isfinite(price) & (price > 0)), "price"),
        "currency_unknown": (_by_value(frame["currency"], _coded).isna(), "currency"),
        "delivery_cost_below_zero": (cost < 0, "delivery_cost"),
        "tax_rate_out_of_range": ((rate < 0) | (rate >= 1), "tax_rate"),
        "net_price_without_tax_rate": (~gross & rate.isna(), "tax_included"),
        "not_dated": (frame["observed_at"].isna(), "observed_at"),
        "observed_in_the_future": (frame["observed_at"] > frame["seen_at"] + CLOCK_SKEW, "observed_at"),
    }
    reason = np.full(len(frame), "", dtype=object)
    found = np.full(len(frame), "", dtype=object)
    for code, (broken, column) in rules.items():
        rows = np.flatnonzero(broken.fillna(False).to_numpy(dtype=np.bool_) & (reason == ""))
        reason[rows] = code
        found[rows] = [f"{column} {'absent' if pd.isna(cell) else cell}" for cell in frame[column].iloc[rows]]
    bad = reason != ""
    aside = frame[bad].assign(
        **{name: pd.array(each[bad], dtype="string") for name, each in (("reason", reason), ("found", found))}
    )
    return OfferBatch(frame[~bad].reset_index(drop=True), aside.reset_index(drop=True))


def _by_value(column: pd.Series, change: Callable[[pd.Series], pd.Series]) -> pd.Series:
    """A column of texts, changed once per distinct one: there are few, and many rows."""
    codes, values = pd.factorize(column)
    changed = change(pd.Series(values, dtype="string")).astype("string")
    whole = pd.concat([changed, pd.Series([pd.NA], dtype="string")], ignore_index=True)
    return pd.Series(whole.array[codes], index=column.index, dtype="string")


def _stripped(values: pd.Series) -> pd.Series:
    stripped = values.str.strip()
    return stripped.mask(stripped == "")


def _prefixed(values: pd.Series, *, kind: str) -> pd.Series:
    return f"{kind}:" + values


def _coded(values: pd.Series) -> pd.Series:
    return values.where(values.str.fullmatch("[A-Z]{3}").astype(bool))


def _words(error: PydanticError) -> str:
    fault = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, fault["loc"]))
    return f"{place}: {fault['msg']}" if place else str(fault["msg"])


def _texts_of(given: Any) -> dict[str, str]:
    if not isinstance(given, Mapping):
        return {}
    return {name: given[name][:200] for name in _TEXTS if isinstance(given.get(name), str)}


def _as_text(column: pd.Series) -> pd.Series:
    """Texts; whole numbers that a spreadsheet made of ids lose their ".0", since 4006381333931.0 is no EAN."""
    if column.dtype.kind == "f":
        whole = column.notna() & (column % 1 == 0) & (column.abs() < 1e15)
        texts = column.astype("string")
        return texts.mask(whole, column.where(whole, 0).astype("int64").astype("string"))
    return column.astype("string")


def _as_flag(column: pd.Series) -> pd.Series:
    lowered = column.map(lambda cell: cell.strip().lower() if isinstance(cell, str) else cell)
    return lowered.map(_FLAGS).astype("boolean")


def _as_time(column: pd.Series, time_zone: str) -> pd.Series:
    """Times in UTC; those without an offset are of the time zone.

    Where clocks are put back, the first of two equal times is meant; where they are put forward, a time that is skipped
    moves to the next that exists.
    """
    if column.dtype.kind == "M":
        return column.dt.tz_convert("UTC") if column.dt.tz is not None else _localised(column, time_zone)
    texts = column.astype("string").str.strip()
    offset = texts.str.contains(r"(?:Z|[+-]\d{2}:?\d{2})$", regex=True, na=False) & texts.str.contains(":", na=False)
    aware = pd.to_datetime(texts.where(offset), errors="coerce", utc=True, format="ISO8601")
    plain = pd.to_datetime(texts.where(~offset), errors="coerce", format="ISO8601")
    return aware.fillna(_localised(plain, time_zone))


def _localised(column: pd.Series, time_zone: str) -> pd.Series:
    local = column.dt.tz_localize(time_zone, ambiguous=True, nonexistent="shift_forward")
    return cast("pd.Series", local.dt.tz_convert("UTC"))


def _unread(given: pd.DataFrame, read: pd.DataFrame) -> pd.Series:
    """(row,) what a cell holds that could not be read as its column's kind; empty where all could."""
    said = pd.Series("", index=given.index, dtype="string")
    for name in (*_NUMBERS, "in_stock", "tax_included", "observed_at"):
        if name in given:
            empty = read[name].isna() & given[name].notna() & (said == "")
            cells = given.loc[empty, name].astype("string").str.strip()
            lost = cells[cells != ""]
            said[lost.index] = f"{name}: cannot be read: " + lost.str.slice(0, 60)
    return said
