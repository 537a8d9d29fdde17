"""Read competitors' prices from their APIs; a fault costs the prices of its source, never the night."""

import asyncio
import contextlib
import csv
import datetime as dt
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
from pydantic import AwareDatetime, BaseModel, Field, StringConstraints, ValidationError, model_validator

from etl.http import Address, Api, ApiError, Authentication, Limits, Settings
from etl.report import TableRead
from pricing.errors import first_line

_IDS = dict.fromkeys(("source", "offer_id", "product_id"), pa.string())
SCHEMA = pa.schema({**_IDS, "price": pa.float64(), "available": pa.bool_(), "seen_at": pa.timestamp("us", "UTC")})
CLOCK_SKEW = dt.timedelta(minutes=15)
"""How far ahead of ours a source's clock may be before its times count as wrong."""
LIMITS = Limits()

SourceName = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,63}$")]
"""Name of a source, which names a folder."""
DottedPath = Annotated[str, Field(pattern=r"^[^.]+(\.[^.]+)*$", examples=["data.offers"])]
# What cannot be printed, such as half a surrogate pair, can be neither written nor compared.
Id = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^\P{C}+$")]


class FieldsSettings(Settings):
    """Where a record has what."""

    price: DottedPath
    product_id: Annotated[DottedPath | None, Field(description="Our id, where they know it.")] = None
    offer_id: Annotated[DottedPath | None, Field(description="Their id; null: the product's.")] = None
    available: Annotated[DottedPath | None, Field(description="True or false; null: all can be bought.")] = None
    seen_at: Annotated[DottedPath | None, Field(description="ISO 8601 with offset; null: when collected.")] = None


class PagingSettings(Settings):
    """How one page leads to the next: by a cursor, by its number until one is empty or repeats, or by an address."""

    kind: Literal["cursor", "page", "link"]
    parameter: Annotated[str | None, Field(description="Of the address; null: the name of the kind.")] = None
    next: Annotated[DottedPath | None, Field(description="Of cursor or link; null: next_cursor, Link header.")] = None
    first: Annotated[int, Field(ge=0, le=1, description="Number of the first page.")] = 1


class CompetitorSettings(Settings):
    """One API of competitors' prices."""

    url: Address
    fields: FieldsSettings
    records: Annotated[DottedPath | None, Field(description="Where the list of offers is; null: it is all.")] = None
    paging: PagingSettings | None = None
    authentication: Authentication | None = None
    match: Annotated[Path | None, Field(description="CSV file with the columns offer_id and product_id.")] = None

    @model_validator(mode="after")
    def _one_way_to_match(self) -> Self:
        if (self.match is None) == (self.fields.product_id is None) or (self.match and not self.fields.offer_id):
            raise ValueError("give either fields.product_id, or match and fields.offer_id")
        return self


class Offer(BaseModel, coerce_numbers_to_str=True):
    """One usable offer; "" is an id that the settings do not map."""

    offer_id: Id = ""
    product_id: Id = ""
    price: Annotated[float, Field(strict=True, gt=0, le=1e9)]
    available: Annotated[bool | None, Field(strict=True)] = None
    seen_at: Annotated[AwareDatetime, Field(ge=dt.datetime(2000, 1, 1, tzinfo=dt.UTC))]


class Reading:
    """The reading of one source: what came of its offers, and what ended it early.

    Attributes:
        fault: A sentence without secrets, where something is missing; else empty.
    """

    def __init__(self, name: str, settings: CompetitorSettings, *, now: dt.datetime) -> None:
        self._name = name
        self._settings = settings
        self._now = now.astimezone(dt.UTC)
        self._paths = {field: path for field, path in settings.fields if path}
        self._set_aside: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._pages = [SCHEMA.empty_table()]
        self.fault = ""

    @property
    def offers(self) -> pa.Table:
        """Those that can be used, by `SCHEMA`; what came before a fault counts."""
        return pa.concat_tables(self._pages)

    def counts(self) -> TableRead:
        """Counts the offers so far; `aside` is by the field at fault, "match" where no product has the id."""
        used = self.offers.num_rows
        return TableRead(
            location=f"API {self._name}",
            read=used + self._set_aside.total(),
            used=used,
            aside=dict(self._set_aside),
            examples=self._examples,
        )

    async def read(self, environ: Mapping[str, str], limits: Limits = LIMITS) -> None:
        """Reads page after page; a fault ends the reading and is noted. `environ` holds the secrets."""
        settings = self._settings
        try:
            match = read_match(settings.match) if settings.match else None
            api = Api(settings.url, settings.authentication, environ=environ, limits=limits)
            async with asyncio.timeout(limits.seconds), contextlib.aclosing(api):
                await self._read_pages(api, match)
        except ApiError as error:
            self.fault = str(error)
        except TimeoutError:
            self.fault = f"it was not read to its end within {limits.seconds:,.0f} s"

    async def _read_pages(self, api: Api, match: Mapping[str, str] | None) -> None:
        paging = self._settings.paging
        link = ""
        params: dict[str, str] = {}
        for number in itertools.count(paging.first if paging else 0):
            if paging and paging.kind == "page":
                params = {paging.parameter or "page": str(number)}
            document, linked = await api.get(link, params)
            records = at(document, self._settings.records)
            if not isinstance(records, list):
                raise ApiError(f"its answer has no list of offers at {self._settings.records or 'its top'}")
            self.add(records, match=match, hide=api.hide)

            if paging is None:
                return
            if paging.kind == "page":
                repeats = self._pages[-1].num_rows and self._pages[-1].equals(self._pages[-2])
                if not records or repeats:
                    return
                continue
            following = _next_page(paging, document, linked)
            if not following:
                return
            if paging.kind == "link":
                link = following
            else:
                params = {paging.parameter or "cursor": following}

    def add(self, records: Sequence[Any], *, match: Mapping[str, str] | None, hide: Callable[[str], str]) -> None:
        """Reads the offers of one page, any JSON, each by itself; a text in which `hide` finds a secret is no id."""
        rows = []
        for record in records:
            try:
                given = {field: at(record, path) for field, path in self._paths.items()}
                offer = Offer.model_validate({"seen_at": self._now, **given})
            except ValidationError as error:
                bad = error.errors()[0]
                self._put_aside(str(bad["loc"][0]), bad["input"], hide)
                continue
            offer_id = offer.offer_id or offer.product_id
            product_id = offer.product_id if match is None else match.get(offer_id)
            ids = offer_id + offer.product_id
            if hide(ids) != ids:
                self._put_aside("offer_id", offer_id, hide)
            elif offer.seen_at > self._now + CLOCK_SKEW:
                self._put_aside("seen_at", offer.seen_at, hide)
            elif not product_id:
                self._put_aside("match", offer_id, hide)
            else:
                rows.append(
                    {
                        "source": self._name,
                        "offer_id": offer_id,
                        "product_id": product_id,
                        "price": offer.price,
                        "available": offer.available is not False,
                        "seen_at": offer.seen_at,
                    }
                )
        self._pages.append(pa.Table.from_pylist(rows, SCHEMA))

    def _put_aside(self, field: str, value: Any, hide: Callable[[str], str]) -> None:
        self._set_aside[field] += 1
        if field not in self._examples:
            shown = f"a {type(value).__name__}" if isinstance(value, list | dict) else hide(str(value))
            self._examples[field] = ascii(shown)[:80]


def _next_page(paging: PagingSettings, document: Any, linked: str | None) -> str:
    """The cursor or link that an answer names, in its JSON or its Link header; empty where it names none."""
    following = at(document, paging.next or "next_cursor") if paging.kind == "cursor" or paging.next else linked
    if following is None:
        return ""
    if not isinstance(following, str | int):
        raise ApiError("what it names as its next page is none")
    return str(following)


def read_match(path: Path) -> dict[str, str]:
    """Their id → our id, from a CSV file.

    Raises:
        ApiError: It cannot be read, lacks a column, or gives two products for one id.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            pairs = {(row["offer_id"], row["product_id"]) for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise ApiError(f"match {path} cannot be read ({type(error).__name__}: {first_line(error)})") from error
    match = dict(pairs)
    if len(pairs) > len(match):
        raise ApiError(f"match {path} gives several products for one offer_id")
    return match


def at(document: Any, path: str | None) -> Any:
    """The value at a dotted path of JSON; None where there is none."""
    for key in path.split(".") if path else ():
        document = document.get(key) if isinstance(document, dict) else None
    return document
