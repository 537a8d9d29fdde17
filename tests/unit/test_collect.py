"""Nights over a retailer's tables: only what is new is read, and the rows are as if everything had been."""

import datetime as dt
import itertools
from pathlib import Path

import pandas as pd
import pytest

from pricing.config import load_config
from pricing.config_sources import StockSource
from pricing.data.manifest import Manifest, read_manifest, read_rows
from pricing.errors import SourceError
from pricing.sources import source_run
from pricing.sources.collect import Collected, collect
from pricing.sources.set_aside import SetAside
from pricing.sources.source_reader import Window
from pricing.sources.store import Store
from tests.kit.shop import FIRST, Shop

_runs = itertools.count()


def night(shop: Shop, folder: Path, *, window: Window | None = None, dry_run: bool = False) -> Collected:
    number = next(_runs)
    now = dt.datetime(2026, 5, 1, 4, tzinfo=dt.UTC) + dt.timedelta(minutes=number)
    return collect(
        shop.config, folder=folder, run_id=f"run-{number}", window=window, dry_run=dry_run, now=now, environment={}
    )


def rows(folder: Path) -> pd.DataFrame:
    return read_rows(folder).sort_values(["product_id", "date"], ignore_index=True)


def kinds(found: Collected) -> dict[str, str]:
    return {change.kind: str(change.first_day) for change in found.manifest.changes}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("stores", ["one", "summed", "separate"])
def test_nights_one_after_another_give_what_one_run_over_everything_gives(
    tmp_path: Path, seed: int, stores: str
) -> None:
    more = "  stores: separate" if stores == "separate" else ""
    shop = Shop(tmp_path, seed=seed, stores=1 if stores == "one" else 3, more=more)
    shop.trade(20)
    night(shop, tmp_path / "nights")
    for days in (1, 3, 14, 20, 1):
        shop.trade(days)
        night(shop, tmp_path / "nights")

    night(shop, tmp_path / "once")

    pd.testing.assert_frame_equal(rows(tmp_path / "nights"), rows(tmp_path / "once"), check_exact=True)
    assert read_manifest(tmp_path / "nights").id == read_manifest(tmp_path / "once").id


def with_movements(shop: Shop) -> None:
    """Replaces the counts of a shop by movements: a delivery now and then, and what was sold."""
    shop.execute("CREATE TABLE moves (at TEXT, sku TEXT, quantity REAL)")
    sources = shop.config.sources
    assert sources is not None
    stock = StockSource.model_validate(
        {
            "kind": "movements",
            "location": f"sqlite:///{shop.file}#moves",
            "columns": {"time": "at", "product_id": "sku"},
            "late_days": 4,
        }
    )
    shop.config = shop.config.model_copy(update={"sources": sources.model_copy(update={"stock": stock})})


def move(shop: Shop, days: int) -> None:
    """Trades on further days, and books what was sold; every fifth day 40 of each product come in."""
    for _ in range(days):
        if (shop.day - FIRST).days % 5 == 0:
            for product in shop.products:
                shop.execute("INSERT INTO moves VALUES (?, ?, ?)", f"{shop.day}T05:00:00+01:00", product, 40)
        line = shop.line
        shop.trade(1)
        shop.execute("INSERT INTO moves SELECT at, sku, -quantity FROM lines WHERE line_id > ?", line)


@pytest.mark.parametrize("seed", range(3))
def test_nights_over_movements_give_what_one_run_over_everything_gives(tmp_path: Path, seed: int) -> None:
    shop = Shop(tmp_path, seed=seed)
    with_movements(shop)
    move(shop, 20)
    night(shop, tmp_path / "nights")
    for days in (1, 3, 14, 1):
        move(shop, days)
        night(shop, tmp_path / "nights")

    night(shop, tmp_path / "once")

    assert rows(tmp_path / "once")["stock"].notna().mean() > 0.9
    pd.testing.assert_frame_equal(rows(tmp_path / "nights"), rows(tmp_path / "once"), check_exact=True)


def test_products_whose_movements_lack_their_beginning_are_named(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with_movements(shop)
    move(shop, 30)
    shop.execute("DELETE FROM moves WHERE sku = 'P1' AND quantity = 40")

    found = night(shop, tmp_path / "store")

    assert [note for note in found.manifest.notes if "lack the beginning of their movements, such as P1:" in note]
    assert rows(tmp_path / "store").query("product_id == 'P1'")["stock"].isna().all()


def test_a_second_run_on_the_same_tables_changes_no_byte(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(30)
    night(shop, tmp_path / "store")
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*.*") if "plans" not in path.parts}

    again = night(shop, tmp_path / "store")

    assert not again.published
    assert {path: path.read_bytes() for path in before} == before


def test_a_night_reads_the_newest_days_alone(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(60)
    everything = night(shop, tmp_path / "store")
    shop.trade(1)

    found = night(shop, tmp_path / "store")

    assert found.manifest.sources["sales"].read_from == shop.day - dt.timedelta(days=2 + 4)
    assert found.manifest.sources["sales"].rows < everything.manifest.sources["sales"].rows / 5
    assert "new" in kinds(found)


def test_a_late_line_corrects_its_day_and_leaves_earlier_months_untouched(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(100)
    night(shop, tmp_path / "store")
    before = read_manifest(tmp_path / "store")
    late = shop.day - dt.timedelta(days=3)
    shop.sell("P1", 7, day=late)

    found = night(shop, tmp_path / "store")

    after = read_manifest(tmp_path / "store")
    assert set(kinds(found).values()) == {str(late)}
    assert found.since is not None
    assert {name: part for name, part in after.rows.items() if name < found.since} == {
        name: part for name, part in before.rows.items() if name < found.since
    }


def test_a_range_read_again_finds_what_came_later_than_a_night_looks(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(60)
    night(shop, tmp_path / "store")
    late = FIRST + dt.timedelta(days=10)
    shop.sell("P1", 7, day=late)
    unseen = night(shop, tmp_path / "store")

    found = night(shop, tmp_path / "store", window=Window(first=late, last=late))

    assert not unseen.published
    assert set(kinds(found).values()) == {str(late)}
    night(shop, tmp_path / "once")
    pd.testing.assert_frame_equal(rows(tmp_path / "store"), rows(tmp_path / "once"), check_exact=True)


def test_a_dry_run_says_what_would_change_and_changes_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(30)
    night(shop, tmp_path / "store")
    shop.trade(1)
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}

    found = night(shop, tmp_path / "store", dry_run=True)

    assert not found.published
    assert kinds(found)["new"] == str(shop.day - dt.timedelta(days=1))
    assert {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()} == before


def test_a_check_that_fails_leaves_the_rows_as_they_were(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(30)
    night(shop, tmp_path / "store")
    before = rows(tmp_path / "store")
    shop.trade(1)

    def refuse(manifest: Manifest, set_aside: SetAside) -> None:
        raise SourceError("no")

    now = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)
    with pytest.raises(SourceError, match="no"):
        collect(shop.config, folder=tmp_path / "store", run_id="r", check=refuse, now=now, environment={})

    pd.testing.assert_frame_equal(rows(tmp_path / "store"), before)


@pytest.mark.parametrize("after", ["products", "sales", "stock"])
def test_a_run_that_dies_leaves_the_rows_whole_and_the_next_one_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    shop = Shop(tmp_path)
    shop.trade(30)
    night(shop, tmp_path / "store")
    before = rows(tmp_path / "store")
    shop.trade(2)
    method = getattr(source_run.SourceRun, f"_read_{after}")

    def dies(run: source_run.SourceRun, draft: object) -> None:
        method(run, draft)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(source_run.SourceRun, f"_read_{after}", dies)
        with pytest.raises(KeyboardInterrupt):
            night(shop, tmp_path / "store")
    whole = rows(tmp_path / "store")
    night(shop, tmp_path / "store")
    night(shop, tmp_path / "once")

    pd.testing.assert_frame_equal(whole, before)
    pd.testing.assert_frame_equal(rows(tmp_path / "store"), rows(tmp_path / "once"), check_exact=True)


def test_a_database_that_forgets_its_past_takes_nothing_away_when_all_is_read_again(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(40)
    night(shop, tmp_path / "store")
    before = rows(tmp_path / "store")
    for table, column in (("lines", "at"), ("counts", "day")):
        shop.execute(f"DELETE FROM {table} WHERE substr({column}, 1, 10) < '2026-02-20'")

    again = night(shop, tmp_path / "store", window=Window(full=True))

    pd.testing.assert_frame_equal(rows(tmp_path / "store"), before)
    assert any("the source no longer has them" in note for note in again.manifest.notes)


def test_a_shop_that_stopped_selling_long_ago_is_still_read_every_night(tmp_path: Path) -> None:
    shop, store = Shop(tmp_path), tmp_path / "store"
    shop.trade(20)
    later = dt.datetime(2026, 12, 1, 4, tzinfo=dt.UTC)

    def read(days: int) -> Collected:
        now = later + dt.timedelta(days=days)
        return collect(shop.config, folder=store, run_id=f"day {days}", now=now, environment={})

    read(0)
    before = rows(store)
    quiet = read(1)
    shop.execute("UPDATE master SET cost = 9 WHERE sku = 'P1'")  # holds from that day on, of which there are no sales
    read(2)

    assert (quiet.published, quiet.since) == (False, None)
    pd.testing.assert_frame_equal(rows(store), before)


def test_a_folder_with_a_damaged_table_is_moved_away_as_the_message_says(tmp_path: Path) -> None:
    shop, store = Shop(tmp_path), tmp_path / "store"
    shop.trade(20)
    night(shop, store)
    before = rows(store)
    (store / next(iter(read_manifest(store).tables["sales"].values())).file).write_bytes(b"half")

    with pytest.raises(SourceError, match=r"is damaged.*move the folder away"):
        night(shop, store, window=Window(full=True))
    store.rename(tmp_path / "away")
    night(shop, store)

    pd.testing.assert_frame_equal(rows(store), before)


def test_tables_of_competitors_that_hold_a_header_alone_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "rivals.csv").write_text("product_id,competitor,price,observed_at\n")
    (tmp_path / "items.csv").write_text("item_id,product_id\n")
    tables = (("competitor_prices", "rivals.csv"), ("competitor_items", "items.csv"))
    named = "".join(f"  {name}: {{location: {tmp_path / file}}}\n" for name, file in tables)
    shop = Shop(tmp_path, more=f"  currency: EUR\n  competitors: {{}}\n{named}")
    shop.trade(10)

    night(shop, tmp_path / "store")

    assert "comp_price" not in rows(tmp_path / "store")


def test_an_export_of_one_day_takes_no_other_day_away(tmp_path: Path) -> None:
    file, store = tmp_path / "export.csv", tmp_path / "store"
    shop = Shop(tmp_path)
    shop.path.write_text(
        f"sources: {{zone: UTC, sales: {{kind: order_lines, location: {file}, zero_days: none}}}}", encoding="utf-8"
    )
    shop.config = load_config(shop.path)
    header = "time,product_id,quantity,unit_price\n"
    days = [str(FIRST + dt.timedelta(days=day)) for day in range(12)]
    file.write_text(header + "".join(f"{day},P1,2,5\n" for day in days[:10]))
    night(shop, store)

    for day in days[10:]:
        file.write_text(f"{header}{day},P1,3,5\n")
        night(shop, store)

    assert rows(store)["units_sold"].tolist() == [2.0] * 10 + [3.0] * 2


def test_a_range_that_a_person_asks_for_is_what_the_source_says_of_it_now(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(40)
    night(shop, tmp_path / "store")
    day = FIRST + dt.timedelta(days=12)
    shop.execute(f"DELETE FROM lines WHERE substr(at, 1, 10) = '{day}'")

    night(shop, tmp_path / "store", window=Window(first=day, last=day))
    night(shop, tmp_path / "once")

    pd.testing.assert_frame_equal(rows(tmp_path / "store"), rows(tmp_path / "once"), check_exact=True)


def test_a_line_of_a_far_year_is_set_aside_and_the_next_night_still_reads(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(20)
    shop.sell("P1", 3, day=dt.date(2159, 1, 1))
    shop_line = shop.line
    found = night(shop, tmp_path / "store")
    shop.trade(1)

    night(shop, tmp_path / "store")

    sales = found.manifest.sources["sales"]
    assert (sales.reasons, sales.rejected) == ({"the day lies in the future": 1}, 1)
    assert found.set_aside.frame("sales")["product_id"].tolist() == ["P1"]
    assert found.set_aside.counts[0].first.endswith(f"line {shop_line}")
    assert rows(tmp_path / "store")["date"].max() == pd.Timestamp(shop.day - dt.timedelta(days=1))


@pytest.mark.parametrize("kind", ["sales", "stock"])
def test_today_is_the_last_day_of_sales_and_tomorrow_that_of_stock(tmp_path: Path, kind: str) -> None:
    shop = Shop(tmp_path)
    shop.trade(20)
    today = dt.date(2026, 5, 1)  # by the clocks of Berlin at 04:00 UTC
    for days in range(4):
        day = today + dt.timedelta(days=days)
        shop.sell("P1", 3, day=day) if kind == "sales" else shop.count("P1", 3, day=day)

    found = night(shop, tmp_path / "store")

    expected = {"sales": (3, today), "stock": (2, today + dt.timedelta(days=1))}[kind]
    source = found.manifest.sources[kind]
    assert (source.reasons["the day lies in the future"], source.newest) == expected


def test_a_night_judges_the_price_of_a_weekly_seller_by_its_former_days(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(30)
    for week in range(4):
        shop.sell("slow", 1, day=FIRST + dt.timedelta(days=7 * week), price=20.0 + week)
    night(shop, tmp_path / "store")
    shop.trade(3)
    shop.sell("slow", 1, day=shop.day - dt.timedelta(days=1), price=9_999_999)
    shop.sell("new", 1, day=shop.day - dt.timedelta(days=1), price=9_999_999)

    found = night(shop, tmp_path / "store")

    assert found.manifest.sources["sales"].read_from is not None
    assert found.manifest.sources["sales"].reasons == {"the price is more than 100 times the product's usual one": 1}
    assert found.set_aside.frame("sales")["product_id"].tolist() == ["slow"]
    assert rows(tmp_path / "store").query("product_id == 'slow'")["price"].max() == 23.0
    assert rows(tmp_path / "store").query("product_id == 'new'")["price"].max() == 9_999_999


def test_a_range_read_again_is_not_judged_by_what_it_replaces(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(30)
    days = [FIRST + dt.timedelta(days=week) for week in (2, 4, 6, 8)]
    for day in days:
        shop.sell("slow", 1, day=day, price=9_999_999)
    night(shop, tmp_path / "store")
    shop.execute("UPDATE lines SET paid = 20 WHERE sku = 'slow'")

    night(shop, tmp_path / "store", window=Window(first=days[0], last=days[-1]))

    assert rows(tmp_path / "store").query("product_id == 'slow'")["price"].max() == 20.0


def test_a_product_that_was_renamed_is_one_product_on_all_days(tmp_path: Path) -> None:
    file = tmp_path / "aliases.csv"
    file.write_text("former_id,product_id\n")
    shop = Shop(tmp_path, more=f"  aliases: {{location: {file}}}")
    shop.trade(60)
    night(shop, tmp_path / "store")
    file.write_text("former_id,product_id\nP0,P1\n")

    night(shop, tmp_path / "store")
    night(shop, tmp_path / "once")

    assert "P0" not in set(rows(tmp_path / "store")["product_id"])
    pd.testing.assert_frame_equal(rows(tmp_path / "store"), rows(tmp_path / "once"), check_exact=True)


def test_a_shop_whose_times_are_of_another_zone_loses_no_hour_of_its_days(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    text = shop.path.read_text().replace("zone: Europe/Berlin", "zone: Asia/Tokyo")
    shop.path.write_text(
        text.replace("    late_days: 4\n    return_days", "    zone: UTC\n    late_days: 4\n    return_days")
    )
    shop.config = load_config(shop.path)

    def trade(first: dt.date, days: int) -> None:
        for day, hour in itertools.product(range(days), range(24)):
            at = f"{first + dt.timedelta(days=day)}T{hour:02d}:10:00"  # bare times of UTC
            shop.line += 1
            shop.execute("INSERT INTO lines VALUES (?, ?, 'P0', '', 1, 5)", shop.line, at)

    trade(FIRST, 20)
    night(shop, tmp_path / "nights")
    for day in range(20, 26):
        trade(FIRST + dt.timedelta(days=day), 1)
        night(shop, tmp_path / "nights")

    night(shop, tmp_path / "once")

    pd.testing.assert_frame_equal(rows(tmp_path / "nights"), rows(tmp_path / "once"), check_exact=True)
    assert rows(tmp_path / "once")["units_sold"].iloc[1:-1].unique().tolist() == [24.0]


def test_a_period_that_is_not_over_has_no_row_until_it_is(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(20)
    morning = dt.datetime.combine(shop.day - dt.timedelta(days=1), dt.time(8), dt.UTC)

    early = collect(shop.config, folder=tmp_path / "store", run_id="early", now=morning, environment={})
    seen = rows(tmp_path / "store")["date"].max()
    collect(shop.config, folder=tmp_path / "store", run_id="late", now=morning + dt.timedelta(days=1), environment={})

    assert seen == pd.Timestamp(shop.day - dt.timedelta(days=2))
    assert any("wait until it is over" in note for note in early.manifest.notes)
    assert rows(tmp_path / "store")["date"].max() == pd.Timestamp(shop.day - dt.timedelta(days=1))


PROMOTED = "  promotions: {{location: {file}}}"


def test_promotions_that_are_over_stay_whatever_the_calendar_still_holds(tmp_path: Path) -> None:
    file = tmp_path / "promotions.csv"
    file.write_text("product_id,first,last\nP0,2026-01-25,2026-01-29\nP1,2026-01-01,2026-12-31\n")
    shop = Shop(tmp_path, more=PROMOTED.format(file=file))
    shop.trade(40)
    night(shop, tmp_path / "store")
    before = rows(tmp_path / "store")

    for left in ("product_id,first,last\nP1,2026-01-01,2026-12-31\n", "product_id,first,last\n"):
        file.write_text(left)
        shop.trade(1)
        night(shop, tmp_path / "store")
        found = rows(tmp_path / "store")
        now = found[found["date"] <= before["date"].max()].query("product_id == 'P0'").reset_index(drop=True)
        then = before.query("product_id == 'P0'").reset_index(drop=True)
        assert now["is_promo"].fillna(0).tolist() == then["is_promo"].fillna(0).tolist()
        assert then["is_promo"].sum() > 0


def test_a_product_master_that_lost_its_products_stops_the_night(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(20)
    night(shop, tmp_path / "store")
    before = rows(tmp_path / "store")
    shop.execute("DELETE FROM master WHERE sku <> 'P1'")
    shop.trade(1)

    with pytest.raises(SourceError, match=r"1 entries after 5 in the run before.*--full true"):
        night(shop, tmp_path / "store")

    pd.testing.assert_frame_equal(rows(tmp_path / "store"), before)


def test_days_between_the_newest_and_a_range_are_read_too(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(20)
    night(shop, tmp_path / "store")
    shop.trade(10)

    night(shop, tmp_path / "store", window=Window(first=shop.day - dt.timedelta(days=2)))
    night(shop, tmp_path / "once")

    pd.testing.assert_frame_equal(rows(tmp_path / "store"), rows(tmp_path / "once"), check_exact=True)


def test_a_range_is_refused_where_nothing_was_read_before(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(20)

    with pytest.raises(SourceError, match="run etl without --since first"):
        night(shop, tmp_path / "store", window=Window(first=FIRST))


def test_days_before_a_later_beginning_are_gone(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(60)
    night(shop, tmp_path / "store")
    shop.path.write_text(shop.path.read_text() + "  history_from: 2026-02-15\n")
    shop.config = load_config(shop.path)

    night(shop, tmp_path / "store")

    assert rows(tmp_path / "store")["date"].min() >= pd.Timestamp("2026-02-15")


def test_a_tax_rate_that_changes_for_the_past_is_that_of_all_its_days(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.execute("ALTER TABLE master ADD COLUMN tax_rate REAL DEFAULT 0.2")
    shop.execute("ALTER TABLE master ADD COLUMN valid_from TEXT DEFAULT '2025-01-01'")
    shop.trade(60)
    night(shop, tmp_path / "store")
    shop.execute("UPDATE master SET tax_rate = 0.07 WHERE sku = 'P1'")

    night(shop, tmp_path / "store")
    night(shop, tmp_path / "once")

    pd.testing.assert_frame_equal(rows(tmp_path / "store"), rows(tmp_path / "once"), check_exact=True)
    assert rows(tmp_path / "store").query("product_id == 'P1'")["tax_rate"].unique().tolist() == [0.07]


def test_a_renamed_product_keeps_the_days_that_no_source_has_any_more(tmp_path: Path) -> None:
    file = tmp_path / "aliases.csv"
    file.write_text("former_id,product_id\nX,Y\n")
    shop = Shop(tmp_path, more=f"  aliases: {{location: {file}}}")
    shop.trade(40)
    night(shop, tmp_path / "store")
    whole = rows(tmp_path / "store")["units_sold"].sum()
    shop.execute(f"DELETE FROM lines WHERE substr(at, 1, 10) < '{shop.day - dt.timedelta(days=2)}'")
    file.write_text("former_id,product_id\nX,Y\nP0,P1\n")

    night(shop, tmp_path / "store")

    found = rows(tmp_path / "store")
    assert "P0" not in set(found["product_id"])
    assert found["units_sold"].sum() == pytest.approx(whole, abs=10)  # returns may be taken off other days now


def test_a_cost_that_changes_holds_from_the_day_on_which_it_was_seen(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(30)
    night(shop, tmp_path / "store")
    shop.execute("UPDATE master SET cost = 9 WHERE sku = 'P1'")

    night(shop, tmp_path / "store")

    master = Store(tmp_path / "store").read("products")
    mine = master[master["product_id"] == "P1"]
    assert [str(day.date()) for day in mine["valid_from"]] == ["1970-01-01", "2026-05-01"]
    assert rows(tmp_path / "store").query("product_id == 'P1'")["unit_cost"].unique().tolist() == [2.0]


def test_a_new_category_is_that_of_all_days(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(60)
    night(shop, tmp_path / "store")
    shop.execute("UPDATE master SET category = 'other' WHERE sku = 'P1'")

    night(shop, tmp_path / "store")

    assert rows(tmp_path / "store").query("product_id == 'P1'")["category"].unique().tolist() == ["other"]


def test_another_configuration_makes_everything_anew(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(60)
    night(shop, tmp_path / "store")
    sources = shop.config.sources
    assert sources is not None
    changed = sources.model_copy(update={"sales": sources.sales.model_copy(update={"returns": "ignore"})})
    shop.config = shop.config.model_copy(update={"sources": changed})

    found = night(shop, tmp_path / "store")

    assert found.manifest.sources["sales"].read_from is None
    assert "corrected" in kinds(found)


def test_what_databases_answered_is_kept_as_it_came(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(10)

    found = night(shop, tmp_path / "store")

    (file,) = (tmp_path / "store" / "raw" / "sales" / found.manifest.run_id).iterdir()
    kept = pd.read_parquet(file)
    assert len(kept) == shop.line
    assert sorted(kept["quantity"]) == sorted(row[0] for row in shop.execute("SELECT quantity FROM lines"))


@pytest.mark.parametrize("failed", [False, True])
def test_offers_that_a_failed_run_has_seen_count_in_the_next(tmp_path: Path, failed: bool) -> None:
    rivals, store = tmp_path / "rivals.csv", tmp_path / "store"
    rivals.write_text("product_id,price,observed_at\nP2,6.5,2026-02-01T10:00:00+01:00\n")
    more = f"  currency: EUR\n  competitors: {{max_age_days: 30}}\n  competitor_prices: {{location: {rivals}}}\n"
    shop = Shop(tmp_path, more=more)
    shop.trade(30)
    last = shop.day - dt.timedelta(days=1)
    shop.sell("P1", 1, day=last)
    now = dt.datetime.combine(last, dt.time(4), dt.UTC)
    collect(shop.config, folder=store, run_id="first", now=now, environment={})
    with rivals.open("a") as file:
        file.write(f"P1,4.5,{last - dt.timedelta(days=1)}T10:00:00+01:00\n")

    def refuse(manifest: Manifest, set_aside: SetAside) -> None:
        raise SourceError("no")

    if failed:
        with pytest.raises(SourceError, match="no"):
            collect(shop.config, folder=store, run_id="refused", check=refuse, now=now, environment={})
    found = collect(shop.config, folder=store, run_id="next", now=now, environment={})
    again = collect(shop.config, folder=store, run_id="again", now=now, environment={})
    tomorrow = now + dt.timedelta(days=1)  # when the day on which the offer was seen is over
    collect(shop.config, folder=store, run_id="tomorrow", now=tomorrow, environment={})

    sold = rows(store).query("product_id == 'P1'")
    assert sold["comp_price"].iloc[-1] == 4.5
    assert found.manifest.offer_runs == ["first", "refused" if failed else "next"]
    assert (again.published, again.manifest.changes) == (False, [])


def test_a_source_that_is_gone_is_named_and_nothing_changes(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.trade(10)
    night(shop, tmp_path / "store")
    before = rows(tmp_path / "store")
    shop.execute("DROP TABLE counts")

    with pytest.raises(SourceError, match="counts"):
        night(shop, tmp_path / "store")

    pd.testing.assert_frame_equal(rows(tmp_path / "store"), before)
