"""One run over a retailer's sources: what is new of each is read, checked and put into the draft of the store."""

import datetime as dt
import logging
from collections.abc import Iterator, Mapping
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from pricing.config_models import DataConfig
from pricing.config_sources import OrderLines, SourcesConfig
from pricing.data.manifest import SourceRead
from pricing.errors import SourceError
from pricing.sources.as_seen import BEGINNING, as_seen, differing, first_change, with_former
from pricing.sources.calendars import read_events, read_promotions
from pricing.sources.chunk import Chunk
from pricing.sources.competitor_offers import OfferBatch, join_batches, offers_from_table
from pricing.sources.competitors import FOLDER, UNMATCHED, CompetitorsRead, read_competitors
from pricing.sources.derive import ALL
from pricing.sources.finished_rows import read_rows
from pricing.sources.identifiers import Identifiers, read_aliases, spelling_advice
from pricing.sources.inventory import planned_deliveries, stock_counts, stock_movements
from pricing.sources.join import summed_rows
from pricing.sources.order_lines import LineCounts, OrderLineSums, usual_prices
from pricing.sources.partitions import DAY_KEY, replace_days, united
from pricing.sources.product_master import ProductMaster, read_products
from pricing.sources.raw_rows import delete_outdated
from pricing.sources.set_aside import SetAside
from pricing.sources.source_reader import SourceReader, Window
from pricing.sources.store import Draft, Store

_log = logging.getLogger(__name__)
_LEAST_KEPT = 0.5  # share of a table's former entries below which its export is taken for one that failed


class SourceRun:
    """One run: reads the sources one after another into the draft.

    Attributes:
        notes: What was decided on the way, one sentence each.
        touched: The first day that differs from before; None where none does.
    """

    def __init__(
        self,
        config: SourcesConfig,
        *,
        data: DataConfig,
        store: Store,
        run_id: str,
        window: Window,
        keep: bool,
        now: dt.datetime,
        environment: Mapping[str, str],
    ) -> None:
        """Reads nothing yet; `keep` says whether answers are kept and competitors asked."""
        self._config = config
        self._folder = store.folder
        self._counted = set() if store.manifest is None else set(store.manifest.offer_runs)
        self._run_id = run_id
        self._keep = keep
        self._now = now
        self._environment = environment
        self._zone = ZoneInfo(config.zone)
        self._ids = Identifiers(config.ids)
        self._reader = SourceReader(
            config,
            sql_seconds=data.sql_seconds,
            store=store,
            run_id=run_id,
            window=window,
            keep=keep,
            environment=environment,
        )
        self.notes: list[str] = []
        self.touched: dt.date | None = None

    @property
    def sources(self) -> dict[str, SourceRead]:
        """What was read of each."""
        return self._reader.sources

    @property
    def set_aside(self) -> SetAside:
        """Rows that cannot be used."""
        return self._reader.set_aside

    def read(self, draft: Draft) -> None:
        """Reads all but competitors' prices."""
        config = self._config
        renamed = self.reads_all  # by other rules for ids, too
        if config.aliases is not None:
            aliases = self._reader.whole(
                "aliases", config.aliases, lambda rows: read_aliases(rows, set_aside=self.set_aside)
            )
            self._ids = Identifiers(config.ids, aliases=aliases)
            self._refuse_empty("aliases", len(aliases), draft)
            if draft.put("aliases", ALL, pd.DataFrame(sorted(aliases.items()), columns=["former_id", "product_id"])):
                renamed = True
                self.touch(BEGINNING)
        if renamed:
            self._rename(draft)
        self._read_products(draft)
        self._read_sales(draft)
        self._read_stock(draft)
        self._read_calendars(draft)
        self._compare_ids()
        if self._keep:
            delete_outdated(self._folder, days=config.keep_raw_days, now=self._now)

    @property
    def reads_all(self) -> bool:
        """Whether everything is read and made anew."""
        return self._reader.window.full

    @property
    def _today(self) -> dt.date:
        return self._now.astimezone(self._zone).date()

    def _refuse_empty(self, name: str, count: int, draft: Draft) -> None:
        """Stops where a table that is read whole has lost its rows since the last run: an export that failed.

        Raises:
            SourceError: It has, and the run is not one that reads everything.
        """
        known = draft.read(name, [ALL])
        had = 0 if known.empty else known["product_id"].nunique() if name == "products" else len(known)
        if had and count < _LEAST_KEPT * had and not self._reader.window.full:
            raise SourceError(
                f"sources.{name}: {self.sources[name].location} has {count:,} entries after {had:,} in the run before, "
                "and an export that failed takes nothing away; if it is so, run etl once with --full true"
            )

    def _sums_differ(self, former: pd.DataFrame, found: pd.DataFrame, draft: Draft) -> bool:
        """Whether what was summed before would be summed otherwise: by other tax rates or pack sizes."""
        names = [
            *(["tax_rate"] if isinstance(self._config.sales, OrderLines) else []),
            *(["pack_size"] if self._config.stock is not None and self._config.stock.pieces else []),
        ]
        if former.empty or not names:
            return False
        other = differing(former, found, names=names)
        sales = self._reader.former.get("sales")
        untaxed = sales is not None and any("no tax rate is known" in reason for reason in sales.reasons)
        sold = draft.read("sales", columns=["product_id"])
        known = set() if sold.empty else set(sold["product_id"].unique())
        told = found[found["product_id"].isin(other)][names].notna().any(axis=1).any()
        return bool(told) and (untaxed or not known.isdisjoint(other))

    def _rename(self, draft: Draft) -> None:
        """Gives stored days the ids of today: of products renamed since, also of days that no source has any more."""
        for name in ("sales", "stock"):
            for partition in list(draft.tables.get(name, {})):
                table = draft.read(name, [partition])
                ids = self._ids.of(self._ids.codes(table["product_id"], source=name))
                if (ids.to_numpy() == table["product_id"].to_numpy()).all():
                    continue
                renamed = table.assign(product_id=ids.to_numpy())
                finished = name == "sales" and not isinstance(self._config.sales, OrderLines)
                draft.put(name, partition, summed_rows(renamed, DAY_KEY) if finished else united(renamed))
                self._reader.window = Window(full=True)  # days that the sources still have are summed anew
                self.touch(BEGINNING)

    def competitors(self, draft: Draft) -> CompetitorsRead | None:
        """Reads competitors' prices; None where none are configured."""
        config = self._config
        if config.competitors is None:
            return None
        table = mapping = None
        if config.competitor_prices is not None:
            table = self._reader.whole("competitor_prices", config.competitor_prices, self._offers)
        if config.competitor_items is not None:
            mapping = self._reader.whole("competitor_items", config.competitor_items, _stacked)
            self._refuse_empty("competitor_items", len(mapping), draft)
            mapping = None if mapping.empty else mapping.sort_values(list(mapping.columns), ignore_index=True)
            if draft.put("competitor_items", ALL, pd.DataFrame() if mapping is None else mapping):
                self.touch(BEGINNING)
        sold = draft.read("sales", columns=["product_id"]).drop_duplicates()
        master = draft.read("products", [ALL], columns=["product_id", "ean"])
        catalogue = sold.merge(master, how="outer", on="product_id") if len(master) else sold
        found = read_competitors(
            config.competitors,
            table=table,
            catalogue=catalogue,
            mapping=mapping,
            folder=self._folder,
            run_id=self._run_id,
            zone=self._zone,
            environment=self._environment if self._keep else None,
        )
        for run, day in found.first_days.items():
            if run not in self._counted:  # of this run, or of one that failed after it had seen them
                self.touch(day)
        self._describe_competitors(found)
        return found

    def _read_products(self, draft: Draft) -> None:
        source = self._config.products
        self._master = ProductMaster.empty()
        if source is None:
            draft.clear("products")
            return
        found, counts = self._reader.whole(
            "products",
            source,
            lambda rows: read_products(rows, source, config=self._config, ids=self._ids, set_aside=self.set_aside),
        )
        self._refuse_empty("products", found["product_id"].nunique() if len(found) else 0, draft)
        former = draft.read("products", [ALL])
        if counts.undated and counts.undated == counts.rows:
            found = as_seen(former, found, today=self._today)
        if draft.put("products", ALL, found):
            self.touch(first_change(former, found, day="valid_from"))
            if self._sums_differ(former, found, draft):
                _log.warning(
                    "products: tax rates or pack sizes of products that were sold have changed: all is read again"
                )
                self._reader.window = Window(full=True)
            if self._config.competitors is not None and len(former) and len(differing(former, found, names=["ean"])):
                self.touch(BEGINNING)  # other offers may match
        self._master = ProductMaster(found) if len(found) else ProductMaster.empty()
        for count, what in (
            (counts.replaced, "rows of products were replaced by a later one of the same first day"),
            (counts.overlaps, "rows of products begin before the former one has ended: the newer one holds"),
            (counts.gaps, "times between two rows of a product on which none holds"),
        ):
            if count:
                self.notes.append(f"products: {count:,} {what}.")

    def _read_sales(self, draft: Draft) -> None:
        source = self._config.sales
        first, last = self._reader.days("sales", source, draft)
        rows = self._reader.rows("sales", source, first, last)
        latest = np.datetime64(self._today, "D")
        if isinstance(source, OrderLines):
            with OrderLineSums(
                source,
                config=self._config,
                ids=self._ids,
                set_aside=self.set_aside,
                master=self._master,
                usual=self._usual_prices(draft, first=first, last=last),
                latest=latest,
            ) as sums:
                for chunk in rows:
                    sums.add(chunk)
                months = [table for _, table in sorted(sums.months(), key=lambda month: month[0])]
                self._reader.done("sales", source, first)  # only now all lines that are set aside are known
                counts = sums.counts
            table = pd.concat(months, ignore_index=True) if months else pd.DataFrame({"date": pd.DatetimeIndex([])})
            self._describe_lines(counts)
        else:
            table = read_rows(
                rows,
                source,
                config=self._config,
                ids=self._ids,
                set_aside=self.set_aside,
                latest=latest,
            )
            self._reader.done("sales", source, first)
        if table.empty and not draft.tables.get("sales"):
            raise SourceError(f"sources.sales: {self.sources['sales'].location} {self._why_none()}")
        self._replace("sales", table, draft, first=first, last=last)

    def _usual_prices(self, draft: Draft, *, first: dt.date | None, last: dt.date | None) -> "pd.Series[float] | None":
        """Prices by the days that this run does not read; None where it reads all of them."""
        if self._reader.window.full or first is None or not draft.tables.get("sales"):
            return None
        days = draft.read("sales", columns=["date", "product_id", "units_gross", "revenue"])
        outside = days["date"] < pd.Timestamp(first)
        if last is not None:
            outside |= days["date"] > pd.Timestamp(last)
        return usual_prices(days[outside])

    def _why_none(self) -> str:
        """Why nothing is left of the sales, as the end of a sentence."""
        read = self.sources["sales"].rows
        if not read:
            return "holds no rows"
        counts = [count for count in self.set_aside.counts if count.table == "sales" and count.dropped]
        if not counts:
            return f"holds {read:,} rows, and none of them is a sale"
        worst = max(counts, key=lambda count: count.rows)
        return (
            f"holds {read:,} rows, and none that can be used: of {worst.rows:,}, {worst.reason} "
            f"(first: {worst.first}); mend them, or name the right columns under sources.sales.columns"
        )

    def _read_stock(self, draft: Draft) -> None:
        source = self._config.stock
        if source is None:
            draft.clear("stock")
            return
        first, last = self._reader.days("stock", source, draft)
        before = None if first is None else first - dt.timedelta(days=1)  # an evening's count is the next opening
        rows = self._reader.rows("stock", source, before, last)
        read = stock_counts if source.kind == "snapshots" else stock_movements
        table, counts = read(
            rows,
            source,
            config=self._config,
            ids=self._ids,
            set_aside=self.set_aside,
            master=self._master,
            latest=np.datetime64(self._today, "D"),
        )
        self._reader.done("stock", source, first)
        self.notes += counts.notes
        if counts.by_day:
            self.notes.append(f"stock: {counts.by_day:,} counts were taken by day, when sales make them differ.")
        self._replace("stock", table, draft, first=first, last=last)

    def _replace(
        self, name: str, table: pd.DataFrame, draft: Draft, *, first: dt.date | None, last: dt.date | None
    ) -> None:
        """Replaces the days that were read.

        A night takes a database at its word for the days that it reads again. Of files, and where everything is read,
        days before the first one that the source still has stay as they are: an export of one day, or a database that
        forgets, takes nothing away. A range that a person asks for becomes what the source says of it.
        """
        self._reader.record(name, newest=table["date"].max() if len(table) else None)
        begin = self._config.history_from
        if self._reader.window.full and begin is not None:
            self.touch(replace_days(draft, name, table[:0], first=None, last=begin - dt.timedelta(days=1)))
        whole = self._reader.of_database(name, getattr(self._config, name)) and not self._reader.window.full
        if self._reader.window.first is None and not whole:
            if table.empty:
                return
            earliest = table["date"].min().date()
            first = earliest if first is None else max(first, earliest)
            kept = [month for month in draft.tables.get(name, {}) if month < f"{first:%Y-%m}"]
            if self._reader.window.full and kept:
                said = f"{name}: days before {first} are kept as they were read before: the source no longer has them"
                self.notes.append(f"{said}.")
                _log.warning("%s", said)
        self.touch(replace_days(draft, name, table, first=first, last=last))

    def _read_calendars(self, draft: Draft) -> None:
        config, ids, aside = self._config, self._ids, self.set_aside
        if (promotions := config.promotions) is None:
            draft.clear("promotions")
        else:
            found = self._reader.whole(
                "promotions", promotions, lambda rows: read_promotions(rows, promotions, ids=ids, set_aside=aside)
            )
            former = draft.read("promotions", [ALL])
            found = with_former(former, found, first="first", last="last", today=self._today)
            if draft.put("promotions", ALL, found):
                self.touch(first_change(former, found, day="first"))
        if (events := config.events) is None:
            draft.clear("events")
        else:
            found = self._reader.whole("events", events, lambda rows: read_events(rows, events, set_aside=aside))
            former = draft.read("events", [ALL])
            draft.put("events", ALL, with_former(former, found, first="date", last="last_date", today=self._today))
        if (planned := config.deliveries) is None:
            draft.clear("deliveries")
        else:
            found = self._reader.whole(
                "deliveries", planned, lambda rows: planned_deliveries(rows, planned, ids=ids, set_aside=aside)
            )
            draft.put("deliveries", ALL, found)

    def _offers(self, rows: Iterator[Chunk]) -> OfferBatch:
        frame = _stacked(rows)
        if frame.empty:
            return join_batches([])
        if "currency" not in frame and self._config.competitors is not None:
            frame = frame.assign(currency=self._config.competitors.currency)
        return offers_from_table(
            frame,
            source="competitor_prices",
            seen_at=self._now.astimezone(dt.UTC),
            run_id=self._run_id,
            competitor="competitor",
            time_zone=self._config.zone,
        )

    def _describe_lines(self, counts: LineCounts) -> None:
        self.notes += counts.notes
        again = counts.versions
        for count, what in (
            (counts.cancelled, "lines are cancelled and no sales"),
            (again.repeated, "lines came more than once, and count once"),
            (again.corrected, "lines were replaced by a newer one of their line_id"),
        ):
            if count:
                self.notes.append(f"sales: {count:,} {what}.")
        if counts.without_id:
            self.notes.append(
                f"sales: {counts.without_id:,} of {counts.read:,} lines have no line_id, so that those loaded twice "
                "count twice, and corrected ones beside what they correct: name their key in sources.sales.columns."
            )
        if counts.several_prices > 0:
            self.notes.append(
                f"sales: on {counts.several_prices:.0%} of products' days more than one price was paid; the day's is "
                "the mean by units."
            )

    def _describe_competitors(self, found: CompetitorsRead) -> None:
        config = self._config.competitors
        for status in found.statuses:
            aside = dict(status.set_aside)
            self.sources[f"competitors.{status.source}"] = SourceRead(
                location="" if config is None else config.apis[status.source].url,
                rows=status.offers + sum(aside.values()),
                rejected=sum(aside.values()),
                reasons=aside,
                newest=None if status.newest is None else status.newest.astimezone(self._zone).date(),
            )
            if status.state != "fresh":
                self.notes.append(f"competitors.{status.source}: {status.state}: {status.why.rstrip('.')}.")
        if found.unmatched:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in found.unmatched.items())
            self.notes.append(
                f"competitors: {sum(found.unmatched.values()):,} offers match no product ({reasons}), such as "
                f"{found.examples[0]}; all are in {self._folder / FOLDER / UNMATCHED}."
            )

    def _compare_ids(self) -> None:
        for said in spelling_advice(self._ids):
            self.notes.append(f"{said}.")
            _log.warning("%s", said)
        for former, rows in self._ids.renamed().items():
            self.notes.append(f"aliases: {rows:,} rows of {former!r} count as its present product's.")

    def touch(self, day: dt.date | None) -> None:
        """Notes that rows from a day on differ; None: nothing does."""
        if day is not None and (self.touched is None or day < self.touched):
            self.touched = day


def _stacked(rows: Iterator[Chunk]) -> pd.DataFrame:
    parts = [chunk.frame for chunk in rows]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
