"""refresh as a job: new products, late corrections, a rewritten past. The small cases are in test_promote.py."""

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from pipelines import promote, refresh, rollback
from pricing.config import load_config
from pricing.data.calendar import WEEKDAYS
from pricing.data.panel import SERIES, Panel
from pricing.decision.product_facts import ProductFacts, carry_facts
from pricing.decision.request import PriceRequest
from pricing.demand.state import expand, overlay, span
from pricing.errors import EXIT_REFUSED
from pricing.registry.version import LoadedVersion
from tests.kit.panels import put
from tests.kit.registered_shop import Shop


def corrected(panel: Panel, *, ago: int) -> Panel:
    """The panel with one product's sales `ago` periods before its end corrected upwards."""
    units = np.nan_to_num(panel.units_sold[0, -ago]) + 500
    return put(panel, (0, -ago), units_sold=units, present=True, stock=units + 1)


def launched(panel: Panel, *, row: int, day: int) -> Panel:
    """The panel with one product that nobody knew before a day."""
    changes: dict[str, Any] = {name: np.array(getattr(panel, name)) for name in SERIES}
    for values in changes.values():
        values[row, :day] = np.nan if values.dtype.kind == "f" else False
    changes["is_promo"][row, :day] = changes["is_holiday"][row, :day] = 0.0
    return replace(panel, **changes)


def restocked(panel: Panel, *, since: int, every: int) -> Panel:
    """The panel with deliveries to all products in another rhythm from a day on."""
    units, stock = np.nan_to_num(np.array(panel.units_sold)), np.array(panel.stock)
    for day in range(since, stock.shape[1]):
        left = np.maximum(stock[:, day - 1] - units[:, day - 1], 0)
        stock[:, day] = np.where(day % every == 0, left + 500, left)
    return replace(panel, stock=stock, units_sold=np.where(panel.present, np.minimum(units, stock), np.nan))


@pytest.mark.parametrize(("days", "ago", "counted"), [(136, 0, 1), (150, 5, 1), (150, 5, 7)])
def test_deliveries_are_learnt_from_new_rows_as_from_the_whole_history(
    shop: Shop, days: int, ago: int, counted: int
) -> None:
    panel = launched(restocked(shop.panel(days), since=125, every=3), row=5, day=135)
    panel.stock[:, np.arange(days) % counted > 0] = np.nan
    known = panel.through(panel.dates[134]).select(np.flatnonzero(np.arange(12) != 5))
    shop.add(panel=known, alias="champion")
    before = shop.fetch("champion").whole_facts()

    shop.refresh(days, first=135 - ago, panel=panel)

    facts, whole = shop.fetch("challenger").whole_facts(), ProductFacts.from_panel(panel)
    for name in ("stock", "stock_counts", "stock_jumps", "delivery_gaps", "last_delivery", "deliveries"):
        np.testing.assert_array_equal(getattr(facts, name), getattr(whole, name), err_msg=name)
    assert days == 136 or not np.array_equal(np.delete(facts.delivery_gaps, 5, axis=0), before.delivery_gaps)


def test_a_product_without_new_rows_keeps_its_tax_and_the_competitors_price_with_its_day(whole: Panel) -> None:
    panel = whole.through(whole.dates[149])
    taxed = np.full_like(panel.tax_rate, 0.07)
    taxed[:, 125:] = 0.2
    panel = replace(panel, tax_rate=taxed)
    past = panel.through(panel.dates[119])
    new = span(panel, 120, 150).select(np.arange(1, 12))  # the first product has no row any more
    tail = overlay(span(past, 85, 120), expand(new, panel.product_ids), whole=np.zeros(12, bool))
    before = ProductFacts.from_panel(past)

    facts = carry_facts(before, span(tail, 30, 65), new, kept=span(past, 85, 120), whole=False)

    np.testing.assert_allclose(facts.tax_rate, [0.07] + [0.2] * 11)
    assert (facts.comp_price[0], facts.comp_price_date[0]) == (before.comp_price[0], before.comp_price_date[0])
    assert (facts.comp_price_date[1:] > before.comp_price_date[1:]).all()


def test_a_competitor_that_newer_rows_do_not_have_is_none_and_a_feed_that_stopped_is_as_old_as_it_was(
    whole: Panel,
) -> None:
    panel = whole.through(whole.dates[149])
    comp = np.full_like(panel.comp_price, 9.0)
    comp[0, 120:] = np.nan
    gone = replace(panel, comp_price=comp, present=np.ones_like(panel.present), units_sold=np.ones_like(comp))
    comp = comp.copy()
    comp[:, 100:] = np.nan
    silent = replace(gone, comp_price=comp)

    def refreshed(sales: Panel) -> ProductFacts:
        before, new = ProductFacts.from_panel(gone.through(gone.dates[99])), span(sales, 115, 150)
        return carry_facts(before, new, new, kept=span(sales, 85, 115), whole=False)

    assert np.isnan(refreshed(gone).comp_price).tolist() == [True] + [False] * 11
    assert np.isnat(refreshed(gone).comp_price_date).tolist() == [True] + [False] * 11
    assert (refreshed(silent).comp_price_date == gone.dates[99]).all()


def test_a_past_rewritten_before_the_checkpoint_is_said_and_can_be_rebuilt(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.add(alias="champion")
    sales = shop.sales(160, panel=corrected(shop.panel(160), ago=100))

    assert refresh.main(["--sales", sales]) == 2

    error = capsys.readouterr().err
    assert str(shop.whole.product_ids[0]) in error
    assert "--rebuild true" in error
    assert "challenger" not in shop.aliases
    assert refresh.main(["--sales", sales, "--rebuild", "true"]) == 0
    assert shop.fetch("challenger").meta["checks"]["parity"] < 1e-5


def test_a_challenger_that_waits_stays_the_challenger_when_states_go_forward(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    first = shop.add(alias="champion")
    proposed = shop.add(seed=3)

    shop.refresh(160)

    newest = shop.registry.versions()[-1]
    assert shop.aliases == {"champion": first, "challenger": proposed}
    assert newest.weights == shop.registry.find(first).weights
    assert f"version {proposed} waits as challenger" in capsys.readouterr().out
    assert promote.main(["--version", newest.number]) == 0
    assert shop.aliases == {"champion": newest.number, "challenger": proposed}


@pytest.mark.parametrize("decision", ["refused", "promoted and rolled back"])
def test_a_challenger_that_was_decided_on_waits_no_more(shop: Shop, decision: str) -> None:
    shop.add(alias="champion")
    if decision == "refused":
        shop.add(seed=3, wape=0.9)
        assert promote.main([]) == EXIT_REFUSED
    else:
        shop.add(seed=3)
        shop.promote()
        assert rollback.main(["--reason", "complaints"]) == 0

    shop.refresh(160)

    newest = shop.registry.versions()[-1]
    assert shop.aliases["challenger"] == newest.number
    assert newest.weights == shop.registry.find("1").weights


def test_refreshing_twice_on_the_same_sales_registers_one_version(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.add(alias="champion")
    sales = shop.sales(160)
    assert refresh.main(["--sales", sales]) == 0
    capsys.readouterr()

    assert refresh.main(["--sales", sales]) == 0

    assert [entry.number for entry in shop.registry.versions()] == ["1", "2"]
    assert shop.aliases == {"champion": "1", "challenger": "2"}
    assert "nothing new to register" in capsys.readouterr().out
    runs = mlflow.search_runs(filter_string="tags.job = 'refresh'", output_format="list")
    assert [run.data.tags["version"] for run in runs] == ["2", "2"], "nightly promotes what its run names"


def test_a_refresh_takes_the_promotions_that_are_planned_by_then(shop: Shop, tmp_path: Path) -> None:
    plan, product = tmp_path / "plan.csv", str(shop.whole.product_ids[0])
    days = [str(day) for day in shop.panel(165).dates[-1] + np.array([-30, -20, 3, 9])]
    config = load_config()
    config = config.model_copy(update={"data": config.data.model_copy(update={"promotions": str(plan)})})
    plan.write_text(f"product_id,first,last\n{product},{days[0]},{days[1]}\n{product},{days[2]},{days[3]}\n")
    shop.add(alias="champion", config=config)
    sales = shop.sales(165)

    assert refresh.main(["--sales", sales]) == 0
    planned = shop.fetch("challenger")
    plan.write_text(f"product_id,first,last\n{product},{days[2]},{days[2]}\n")
    assert refresh.main(["--sales", sales]) == 0
    changed = shop.fetch("challenger")
    plan.unlink()
    assert refresh.main(["--version", "3", "--sales", shop.sales(166)]) == 0
    gone = shop.fetch("4")

    assert [str(day) for day in planned.facts.promotions.last] == [days[3]], "what is over is left out"
    assert [str(day) for day in changed.facts.promotions.last] == [days[2]]
    assert gone.facts.promotions.spans() == changed.facts.promotions.spans()
    assert "promotion_planned" in reasons_of(changed, product, days[2])


def reasons_of(version: LoadedVersion, product: str, day: str) -> list[str]:
    """The reasons of a silent request for a day."""
    date = dt.date.fromisoformat(day)
    ask = PriceRequest(product_id=product, current_stock=10, day_of_week=WEEKDAYS[date.weekday()], date=date)  # type: ignore[arg-type]
    return version.pricer(version="3").price([ask], today=date)[0].reasons


def dear(panel: Panel, *, since: int, until: int) -> Panel:
    """The panel with the prices and list prices of some days in another unit."""
    there = np.zeros(len(panel.dates), bool)
    there[since:until] = True
    return replace(
        panel,
        price=np.where(there, panel.price * 100, panel.price),
        list_price=np.where(there, panel.list_price * 100, panel.list_price),
    )


@pytest.mark.parametrize("alone", [False, True], ids=["the whole history", "new rows alone"])
def test_a_night_in_another_unit_does_not_move_the_last_price_charged_until_it_is_confirmed(
    shop: Shop, alone: bool
) -> None:
    shop.add(alias="champion")
    nights = load_config().serving.jump_confirmed

    def last_price(*, since: int, until: int) -> np.ndarray:
        panel = dear(shop.panel(until), since=150, until=until)
        shop.refresh(until, first=since if alone else 0, panel=panel)
        shop.registry.set_alias("champion", shop.registry.find("challenger").number)
        return shop.fetch("champion").facts.last_price

    sound = shop.panel(150).price[:, -1].astype(np.str_).astype(np.float64)
    np.testing.assert_array_equal(last_price(since=150, until=151), sound)
    np.testing.assert_array_equal(last_price(since=151, until=149 + nights), sound)
    confirmed = last_price(since=149 + nights, until=150 + nights) > 50 * sound
    assert confirmed.sum() == 11, "a product has no row on one of the days"


def test_once_others_are_taxed_a_product_of_a_version_without_taxes_has_an_unknown_rate_and_not_0(whole: Panel) -> None:
    panel = whole.through(whole.dates[149])
    rates = np.full_like(panel.tax_rate, 0.2)
    rates[0] = np.nan
    new = span(replace(panel, tax_rate=rates), 120, 150)
    before = ProductFacts.from_panel(panel.through(panel.dates[119]))

    facts = carry_facts(before, new, new, kept=span(panel, 85, 120), whole=False)

    assert np.isnan(facts.tax_rate).tolist() == [True] + [False] * 11


def test_products_that_the_new_rows_lack_keep_their_facts(shop: Shop) -> None:
    shop.add(alias="champion")
    before = shop.fetch("champion")
    gone = np.flatnonzero(np.arange(12) != 5)

    shop.refresh(160, first=150, panel=shop.panel(160).select(gone))

    version = shop.fetch("challenger")
    assert list(version.facts.product_ids) == list(shop.whole.product_ids)
    facts, known = version.whole_facts(), before.whole_facts()
    for name in ("price", "list_price", "unit_cost", "categories", "cost_assumed", "delivery_gaps"):
        np.testing.assert_array_equal(getattr(facts, name)[5], getattr(known, name)[5], err_msg=name)
