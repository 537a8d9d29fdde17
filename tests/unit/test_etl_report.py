"""The report of a night's sales: what it says first, how late a source is, what changed, and that it is safe HTML."""

import datetime as dt
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.reports.etl_figures import Figures, count_figures
from pipelines.reports.etl_page import SHOWN, headline, render
from pipelines.reports.etl_report import EtlReport, hours_late, make_report, read_report
from pricing.config import load_config
from pricing.data.build import build_panel
from pricing.data.manifest import JoinCount
from pricing.data.quality import Finding, Quality
from pricing.errors import SourceError
from tests.kit.messy_shop import HOSTILE, NOW, messy_config, messy_manifest, messy_report

CONFIG = load_config()
STOP = Finding("price_unit", "stop", "price of 6 products is 100 times what it was", "Bring prices into one unit")
LOOK = Finding("stock_null", "quarantine", "stock is missing on 9 of 9 rows", "Look at stock", column="stock", rows=9)
NOTE = Finding("renamed", "note", "1 product may go on under another id", "Give both one id")


def sales(*products: str, days: int = 30, units: float = 4.0) -> pd.DataFrame:
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "date": pd.date_range("2026-10-01", periods=days),
                    "product_id": name,
                    "units_sold": units,
                    "price": 4.99,
                }
            )
            for name in products
        ],
        ignore_index=True,
    )


def figures_of(frame: pd.DataFrame) -> Figures:
    return count_figures(build_panel(frame, CONFIG.data), CONFIG)


def report(*findings: Finding, frame: pd.DataFrame | None = None, **also: object) -> EtlReport:
    """A report of one product for thirty days, unless said otherwise."""
    given = {
        "figures": figures_of(sales("tea") if frame is None else frame),
        "config": CONFIG,
        "sales": "sales.csv",
        "now": NOW,
    }
    return make_report(Quality(findings, rows=30), **{**given, **also})


# The shop's clock: Berlin is two hours ahead of UTC until 25 October 2026, one hour from then on.
@pytest.mark.parametrize(
    ("newest", "now", "hours"),
    [
        ("2026-11-26", "2026-11-27T07:00", 0),  # yesterday is there
        ("2026-11-25", "2026-11-27T04:59", 0),  # yesterday is due at 6 in Berlin, 5 in UTC
        ("2026-11-25", "2026-11-27T07:00", 2),
        ("2026-11-24", "2026-11-27T07:00", 26),
        ("2026-10-23", "2026-10-25T06:00", 1),  # on the day that the clock is set back, 6 in Berlin is 5 in UTC
        ("2026-10-23", "2026-10-26T05:00", 24),
        ("2026-03-27", "2026-03-29T05:00", 1),  # and set forward: 6 in Berlin is 4 in UTC
        ("2026-12-24", "2026-11-27T07:00", 0),  # a planned day that is still to come
    ],
)
def test_a_source_is_late_from_the_hour_on_that_its_first_missing_day_was_due(
    newest: str, now: str, hours: float
) -> None:
    late = hours_late(
        dt.date.fromisoformat(newest),
        due=dt.time(6),
        zone="Europe/Berlin",
        now=dt.datetime.fromisoformat(now).replace(tzinfo=dt.UTC),
    )

    assert late == hours


def test_rows_of_whole_weeks_are_due_after_the_next_week_ends() -> None:
    monday = dt.date(2026, 11, 9)
    due = {"due": dt.time(6), "zone": "UTC", "step": 7}

    assert hours_late(monday, now=dt.datetime(2026, 11, 23, 5, tzinfo=dt.UTC), **due) == 0
    assert hours_late(monday, now=dt.datetime(2026, 11, 23, 8, tzinfo=dt.UTC), **due) == 2


@pytest.mark.parametrize(
    ("findings", "error", "level", "first"),
    [
        ((), "", "ok", "Sales are in, and nothing needs doing"),
        ((NOTE,), "", "note", "Sales are in, and nothing needs doing"),
        ((LOOK, NOTE), "", "quarantine", "Sales are in, and 1 thing should be looked at"),
        ((STOP, LOOK), "too far", "stop", "Last night's sales were not taken: 1 thing must be mended"),
        ((), "no such file", "stop", "Last night's sales were not taken: 1 thing must be mended"),
    ],
)
def test_the_first_line_says_whether_anything_must_be_done(
    findings: tuple[Finding, ...], error: str, level: str, first: str
) -> None:
    made = report(*findings, error=error)

    assert made.level == level
    assert headline(made) == first
    assert f"<h1>{first.replace(chr(39), '&#x27;')}</h1>" in render(made)


def test_days_without_a_promotion_or_a_competitor_are_nothing_to_look_at() -> None:
    joins = [JoinCount(table=name, sales_rows=100, matched=7) for name in ("promotions", "competitor", "stock")]
    made = report(manifest=messy_manifest().model_copy(update={"joins": joins}))

    assert [task.what for task in made.tasks if "no partner" in task.what] == [
        "93 of 100 rows of sales have no partner in the table stock; 0 products have none at all"
    ]


def test_what_to_do_stands_above_all_figures_the_gravest_first() -> None:
    page = render(report(STOP, LOOK, error="too far"))

    places = [page.index(text) for text in (STOP.text[1:], STOP.advice, LOOK.text[1:], LOOK.advice, "class='tiles'")]
    assert places == sorted(places)


def test_a_late_source_and_tables_that_do_not_match_are_things_to_look_at(tmp_path: Path) -> None:
    made = messy_report(tmp_path)

    late = {state.name: state.late_hours for state in made.sources}
    assert late == {"sales": 0.0, "stock": 26.5, "products": None}
    assert any("source stock is 26 hours late" in task.what for task in made.tasks)
    assert any("1,700 of 11,400 rows of sales have no partner in the table stock" in task.what for task in made.tasks)
    assert not any("table products" in task.what for task in made.tasks)  # 3 % may be so


def test_a_source_of_which_too_many_rows_were_rejected_is_to_be_looked_at() -> None:
    manifest = messy_manifest()
    bad = manifest.sources["sales"].model_copy(update={"rejected": 9_000})
    manifest = manifest.model_copy(update={"sources": {"sales": bad}, "joins": []})

    made = report(config=messy_config(), manifest=manifest)

    assert [task.what for task in made.tasks] == ["9,000 of 48,211 rows of the source sales could not be used"]
    assert "currency SEK has no rate: 297" in made.tasks[0].examples


def test_what_changed_since_the_report_before_is_counted() -> None:
    former = report(NOTE, frame=sales("tea", "jam", days=28))
    frame = sales("tea", "honey", days=30)
    frame.loc[(frame["product_id"] == "tea") & (frame["date"] == "2026-10-05"), "units_sold"] = 9

    changed = report(LOOK, frame=frame, former=former).changed

    assert changed is not None
    assert (changed.rows, changed.new_periods) == (60 - 56, 2)
    assert (changed.changed_periods, changed.first_changed) == (1, "2026-10-05")
    assert (changed.new_products, changed.gone_products) == (1, 1)
    assert changed.examples == ("new: honey", "gone: jam")
    assert (changed.new_findings, changed.gone_findings) == (("stock_null",), ("renamed",))


def test_changes_of_a_manifest_are_told_once() -> None:
    first = report(config=messy_config(), manifest=messy_manifest())

    again = report(config=messy_config(), manifest=messy_manifest(), former=first)
    newer = report(config=messy_config(), manifest=messy_manifest().model_copy(update={"run_id": "next"}), former=again)

    assert [len(one.changes) for one in (first, again, newer)] == [2, 0, 2]


def test_the_same_sales_again_change_nothing() -> None:
    changed = report(former=report()).changed

    assert changed is not None
    assert (changed.rows, changed.new_periods, changed.changed_periods, changed.new_products) == (0, 0, 0, 0)


def test_a_night_that_stopped_leaves_the_night_before_to_compare_with(tmp_path: Path) -> None:
    good = report(frame=sales("tea", days=28))
    stopped = make_report(
        Quality((STOP,)), figures=None, config=CONFIG, sales="s", now=NOW, former=good, error="too far"
    )
    path = tmp_path / "report.json"
    path.write_text(stopped.model_dump_json())

    next_night = report(frame=sales("tea", days=30), former=read_report(path))

    assert "1 products, sales up to 2026-10-28" in render(stopped)
    assert next_night.changed is not None
    assert next_night.changed.new_periods == 2
    assert next_night.before is None


def test_the_document_says_the_same_after_it_was_read_again(tmp_path: Path) -> None:
    made = messy_report(tmp_path)
    (tmp_path / "report.json").write_text(made.model_dump_json())

    assert read_report(tmp_path / "report.json") == made


@pytest.mark.parametrize("text", ["", "{", '{"format": 2}', "[]"])
def test_a_damaged_document_is_refused_with_advice(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)

    with pytest.raises(SourceError, match=r"is no report of this format .* run etl again"):
        read_report(tmp_path / "report.json")


def test_passwords_are_in_neither_page_nor_document() -> None:
    made = report(sales="postgresql://shop:secret@db/sales", error="postgresql://shop:secret@db/sales: no answer")

    assert "secret" not in render(made)
    assert "secret" not in made.model_dump_json()


class Scripts(HTMLParser):
    """Counts what a browser would run, load or follow."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts, self.loads, self.handlers = 0, [], []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.loads += [value for name, value in attrs if name in ("src", "href") and value != "data:,"]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_names_from_the_sales_run_nothing() -> None:
    evil = [
        HOSTILE,
        '"><img src=x onerror=alert(1)>',
        "' onmouseover='alert(1)",
        "</title></table><script>x()</script>",
    ]
    frame = sales(*evil).assign(category=HOSTILE)
    found = replace(LOOK, text=HOSTILE, advice=evil[1], examples=tuple(evil), name="contract", column=evil[2])
    manifest = messy_manifest()
    source = manifest.sources["sales"].model_copy(update={"location": evil[1], "reasons": {evil[2]: 3}})
    manifest = manifest.model_copy(
        update={
            "sources": {HOSTILE: source},
            "joins": [manifest.joins[0].model_copy(update={"table": evil[3], "examples": evil, "matched": 0})],
        }
    )

    seen = Scripts()
    seen.feed(render(report(found, frame=frame, manifest=manifest, sales=evil[3], error=evil[1], former=report())))

    assert (seen.scripts, seen.loads, seen.handlers) == (1, [], [])


def test_a_page_of_ten_thousand_products_stays_small() -> None:
    panel = build_panel(sales("tea", days=20), CONFIG.data)
    names = np.array([f"P{number:05d}" for number in range(10_000)])
    every = {name: np.repeat(value, 10_000, axis=0) for name, value in vars(panel).items()
             if isinstance(value, np.ndarray) and name != "dates"}  # fmt: skip
    many = replace(panel, **{**every, "product_ids": names})

    made = report(figures=count_figures(many, CONFIG))
    page = render(made)

    assert len(page) < 120_000
    assert page.count("<td data-head='product'") == SHOWN
    assert "of 10,000 products; the JSON document beside this page has all" in page
    assert made.figures is not None
    assert len(made.figures.table.product_id) == 10_000


def test_the_share_set_aside_stands_beside_its_limit() -> None:
    quality = Quality((), rows=1000, set_aside=31, bad_rows="bad/bad_rows.csv")

    page = render(make_report(quality, figures=figures_of(sales("tea")), config=CONFIG, sales="s", now=NOW))

    assert "<b>3.1\N{NO-BREAK SPACE}%</b><span>of rows set aside (31); up to 5\N{NO-BREAK SPACE}% may be</span>" in page
