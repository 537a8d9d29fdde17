"""The pages and what their forms do."""

import datetime as dt
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from flask import Flask, abort, flash, redirect, render_template, request, session, url_for
from numpy.typing import NDArray
from werkzeug.wrappers import Response

from console import charts, words
from console.access import Access, person
from console.price_file import PriceFiles, as_csv, as_excel, changes, send
from console.shop import Served, Shop
from console.what_if import MOST, try_prices
from console.worklist import APPROVED, AUTOMATIC, OPEN, PAGE, STATES, Pick, Worklist, totals
from pricing.arrays import Ints
from pricing.decision.explanation import Told, explain
from pricing.decision.guardrails import PriceGrid
from pricing.decision.reasons import BIT, GUARDRAILS, REASONS, meanings
from pricing.decision.switches import Review, Switch, Unfreeze
from pricing.decision_log.read import open_log
from pricing.errors import ConflictError, RequestError
from pricing.registry.control import refuse_unseen
from pricing.registry.version import shown_elasticities
from pricing.runtime.alerts import DeliveryError

PRICES_TRIED = 25  # of a curve
LOG_DAYS = 35  # of a product's decisions
WIDE = 0.35  # how far from list price a curve reaches, a fraction
HIGHEST = 1e9  # of a price
OVERRIDE_DAYS = 7  # that a price given by hand counts, unless a person says otherwise


def pages(app: Flask, shop: Shop) -> None:  # noqa: PLR0915 - one view after the other
    """Adds the pages to the application."""
    files = PriceFiles(shop.home)

    @app.get("/health/live")
    def alive() -> str:
        return "ok"

    @app.route("/login", methods=["GET", "POST"])
    def login() -> Any:
        access: Access = app.extensions["access"]
        wrong = request.method == "POST" and not access.log_in(request.form.get("key", ""))
        if request.method == "POST" and not wrong:
            return redirect(ours(request.form.get("next")))
        text = "This key is not known." if wrong else ""
        return render_template("plain.html", title="Log in", login=True, text=text), 401 if wrong else 200

    @app.post("/logout")
    def logout() -> Response:
        session.clear()
        return redirect(url_for("login"))

    @app.get("/")
    def today() -> str:
        table, states, seen = _state(shop)
        pick = Pick.of(request.args)
        rows = table.pick(pick, states)
        shown = rows[(pick.page - 1) * PAGE : pick.page * PAGE]
        return render_template(
            "today.html",
            **_common(shop, table, seen),
            pick=pick,
            count=len(rows),
            money_of=totals(table, rows),
            lines=[line(shop, table, row, int(states[row])) for row in shown.tolist()],
            pages=max(-(-len(rows) // PAGE), 1),
            until=_until(shop),
            tiles=[
                (
                    show,
                    _tile(shop, show, name),
                    len(listed := table.pick(Pick(show=show), states)),
                    float(table.gain[listed].sum()),
                )
                for show, name in words.SHOWN.items()
                if show != "all"
            ],
        )

    @app.post("/decide")
    def decide() -> Response:
        table, states, _ = _state(shop)
        if request.form.get("table") != table.key:
            raise ConflictError({"the price table": "a newer one came in; look at the new proposals first"})
        one = request.form.get("one", "")
        action, product = one.partition(":")[::2] if one else (request.form.get("action", ""), "")
        if action not in _DONE:
            abort(400, "the form names no action")
        rows = _chosen(table, states, request.form, one=product)
        seen, products = request.form.get("seen", 0, type=int), set(table.text["product_id"][rows].tolist())
        refuse_unseen(shop.record.entries(after=seen), products)  # before what they said makes it a wrong choice
        said = spoken(shop, table, action, rows, states=states, form=request.form)
        shop.say(*said, seen=seen)
        flash(f"{len(rows):,} product{'' if len(rows) == 1 else 's'} {_DONE[action]}.")
        return redirect(ours(request.form.get("back")))

    @app.get("/products/<path:product>")
    def one_product(product: str) -> str:
        table, states, seen = _state(shop)
        row = table.rows.get(product)
        if row is None:
            abort(404, f"no product {product!r} is in the price table")
        said = (str(table.text[name][row]).split() for name in ("reasons", "binds", "gave_way"))
        return render_template(
            "product.html",
            **_common(shop, table, seen),
            line=line(shop, table, row, int(states[row])),
            word=shop.hear().words.get(product),
            reasons=meanings(*said).values(),
            stock=table.number["current_stock"][row],
            cost=table.number["unit_cost"][row],
            until=_until(shop),
            decisions=_decisions(shop, product) if "decisions" in request.args else None,
            **_understood(shop, table, row),
        )

    @app.get("/what-if")
    def what_if() -> str:
        table, states, seen = _state(shop)
        product, given, pick = request.args.get("product", ""), request.args, Pick.of(request.args)
        known = table.rows.get(product)
        rows = table.pick(pick, states) if known is None else np.array([known])
        change, strategy = _change(given.get("change")), given.get("try", "")
        served, tried, trouble = shop.served, None, ""
        if strategy and (served is None or strategy not in served.pricer.policy.names):
            abort(400, "there is no such strategy")
        if served is None:
            trouble = "No version is published yet, so nothing can be tried."
        elif len(rows):
            try:
                tried = try_prices(shop, served, table, rows.tolist(), change=change / 100, strategy=strategy)
            except RequestError as error:
                trouble = str(error)
        return render_template(
            "what_if.html",
            **_common(shop, table, seen),
            pick=pick,
            product=product if known is not None else "",
            change=change,
            strategy=strategy,
            tried=tried,
            trouble=trouble,
            most=MOST,
            lines=[(line(shop, table, row, int(states[row])), price) for row, price in tried.first(PAGE)]
            if tried
            else (),
            policies=served.pricer.policy.names if served else (),
        )

    @app.get("/portfolio")
    def portfolio() -> str:
        table, _, seen = _state(shop)
        reasons = _counted(table)
        up, down = table.change > 0, table.change < 0
        return render_template(
            "portfolio.html",
            **_common(shop, table, seen),
            ways={"up": int(up.sum()), "down": int(down.sum()), "held": int((~up & ~down).sum())},
            gains={name: totals(table, np.flatnonzero(mask)) for name, mask in (("up", up), ("down", down))},
            all_gain=totals(table, np.flatnonzero(up | down)),
            limits=[(code, number) for code, number in reasons.most_common() if number and code in GUARDRAILS],
            held=[(code, number) for code, number in reasons.most_common() if number and code in _WHY_HELD],
            categories=_categories(table),
            monitoring=shop.monitoring,
            gains_measured=[(one, shop.gains.get(one.name)) for one in shop.experiments.values()],
            REASONS=REASONS | GUARDRAILS,
        )

    @app.get("/price-file")
    def price_file() -> str:
        table, states, seen = _state(shop)
        counts = {
            "proposed": int((states == OPEN).sum()),
            "approved": int(np.isin(states, (APPROVED, AUTOMATIC)).sum()),
        }
        written = files.newest()
        counts |= {
            state: sum(len(one.approved) for one in written if one.state == state) for state in ("exported", "failed")
        }
        url = shop.config.console.push_url is not None
        return render_template("price_file.html", **_common(shop, table, seen), counts=counts, files=written, push=url)

    @app.post("/price-file")
    def make_file() -> Response:
        table, states, seen = _state(shop)
        pick = Pick.of({"show": "all", **request.form.to_dict()})
        rows = table.pick(pick, states)
        news = changes(table, rows, states, decision=shop.decision, switches=shop.switches())
        made = files.write(news, by=person().name, at=dt.datetime.now(dt.UTC), seen=seen)
        flash(f"A file with {len(made.rows):,} changes was written, {len(made.approved):,} of them approved.")
        return redirect(url_for("price_file"))

    @app.get("/price-file/<name>.<any(csv, xlsx):kind>")
    def download(name: str, kind: str) -> Response:
        file = files.find(name)
        content = as_csv(file) if kind == "csv" else as_excel(file)
        if file.state == "written" and person().decides:
            file.state = "exported"
            files.keep(file)
        headers = {"Content-Disposition": f'attachment; filename="prices-{name}.{kind}"'}
        mime = "text/csv" if kind == "csv" else "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
        return app.response_class(content, mimetype=mime, headers=headers)

    @app.post("/price-file/<name>/send")
    def send_file(name: str) -> Response:
        file, url = files.find(name), shop.config.console.push_url
        if url is None:
            abort(400, "console.push_url names nobody to send prices to")
        table, states, _ = _state(shop)
        rows = np.array([table.rows.get(row["product_id"], -1) for row in file.approved], dtype=np.int64)
        news = changes(table, rows[rows >= 0], states, decision=shop.decision, switches=shop.switches())
        now = {row["product_id"]: row["new"] for row in news if row["status"] == "approved"}
        stale = [row["product_id"] for row in file.approved if now.get(row["product_id"]) != row["new"]]
        if stale:
            raise ConflictError(dict.fromkeys(stale, "this price is no longer approved; write a new file"))
        try:
            send(file, url.get_secret_value())
            file.state, file.detail = "exported", f"sent by {person().name}"
            flash(f"{len(file.approved):,} approved prices were taken.")
        except DeliveryError as error:
            file.state, file.detail = "failed", str(error)
            flash(str(error))
        files.keep(file)
        return redirect(url_for("price_file"))

    @app.post("/price-file/read")
    def read_file() -> Response:
        table, states, _ = _state(shop)
        sent = request.files.get("file")
        if sent is None or not sent.filename:
            abort(400, "no file was chosen")
        file, decided = files.read_back(sent.read(), excel=sent.filename.lower().endswith(".xlsx"))
        news = {row["product_id"]: row["new"] for row in file.rows}
        now = dict(zip(table.text["product_id"].tolist(), table.number["proposed_price"].tolist(), strict=True))
        stale = [product for product in decided if now.get(product) != news[product]]
        if stale:
            raise ConflictError(dict.fromkeys(stale, "another price is proposed by now"))
        refuse_unseen(shop.record.entries(after=file.seen), set(decided))
        said: list[Switch | Unfreeze | Review] = []
        for word, note in sorted(set(decided.values())):
            rows = [table.rows[product] for product, one in decided.items() if one == (word, note)]
            told = {"reason": note or f"price file {file.name}"}
            said += spoken(shop, table, word, rows, states=states, form=told)
        shop.say(*said, seen=file.seen)
        flash(f"{len(decided):,} decisions were read from the file.")
        return redirect(url_for("price_file"))


_DONE = {
    "approve": "approved",
    "reject": "rejected",
    "freeze": "frozen",
    "unfreeze": "freed",
    "change": "given another price",
}
_WHY_HELD = ("held", "low_confidence", "elasticity_unidentified", "holdout", "frozen")


def spoken(
    shop: Shop, table: Worklist, action: str, rows: Sequence[int], *, states: Ints, form: Mapping[str, str]
) -> list[Switch | Unfreeze | Review]:
    """What a person says by a form: one verdict on all products, or a switch for each. Aborts where it is none."""
    moment, products = dt.datetime.now(dt.UTC).replace(microsecond=0), table.text["product_id"][rows].tolist()
    reason = form.get("reason", "").strip()[:1000] or ("as proposed" if action == "approve" else "")
    if not reason:
        abort(400, "say why, in the field beside the buttons: whoever reads the record later wants to know")
    given: dict[str, Any] = {"reason": reason, "by": person().name, "at": moment}
    if action in ("approve", "reject"):
        if action == "approve" and shop.beyond is None:
            abort(400, "no price waits for approval: decision.approve_beyond is not set")
        if action == "reject" and (shop.beyond is None or np.isin(states[rows], (AUTOMATIC, APPROVED)).any()):
            abort(400, "some of these prices wait for nobody: a rejection would not keep them, a freeze does")
        prices = dict(zip(products, table.number["proposed_price"][rows].tolist(), strict=True))
        return [Review(verdict="approve" if action == "approve" else "reject", prices=prices, **given)]
    scoped = [{**given, "scope": "product", "name": product} for product in products]
    if action == "unfreeze":
        own = {switch.name for switch in shop.switches() if switch.scope == "product"}
        if not own.issuperset(products):
            abort(400, "some of these are set for their category or for everything: pricing unfreeze ends that")
        return [Unfreeze(**one) for one in scoped]
    if action == "freeze":
        return [Switch(action="freeze", **one) for one in scoped]
    price, percent = form.get("price", "").replace(",", "."), _change(form.get("percent"))
    try:
        day = dt.date.fromisoformat(form.get("until") or _until(shop))
        fixed = float(price) if price else None
    except ValueError:
        abort(400, "expected a price such as 4.99, and a day such as 2026-03-06")
    if fixed is None and not percent:
        abort(400, "say which price, or by how many per cent it changes")
    if fixed is not None and len(products) != 1:
        abort(400, "one price is for one product; change many by per cent")
    until = dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), tzinfo=shop.now().tzinfo)
    if until <= moment:
        abort(400, "that day is past")
    wanted = np.array([fixed]) if fixed is not None else table.before[rows] * (1 + percent / 100)
    if not ((wanted > 0) & (wanted < HIGHEST)).all():
        abort(400, "expected a price above 0 that somebody could pay")
    payable = PriceGrid(shop.decision.price_step).nearest(wanted.astype(np.float64)).tolist()
    return [
        Switch(action="override", price=value, until=until, **one) for value, one in zip(payable, scoped, strict=True)
    ]


def line(shop: Shop, table: Worklist, row: int, state: int) -> dict[str, Any]:
    """A row of the table in words."""
    number = {name: float(values[row]) for name, values in table.number.items()}
    text = {name: str(values[row]) for name, values in table.text.items()}
    bits, change = int(table.bits[row]), float(table.change[row])
    strategy = shop.decision.strategies.get(text["strategy"])
    return number | {
        "product": text["product_id"],
        "category": text["category"],
        "before": float(table.before[row]),
        "proposed": number["proposed_price"],
        "change": change,
        "gain": number["expected_gain"],
        "comp": number["comp_price_used"],
        "why": words.why(bits, change, strategy.kind if strategy else ""),
        "binds": words.binding(bits),
        "cover": words.cover(number["current_stock"], number["expected_units"], shop.period),
        "state": STATES[state],
    }


def _state(shop: Shop) -> tuple[Worklist, Ints, int]:
    """The table, where each proposal stands, and the last entry that this rests on. Aborts without a table."""
    table = shop.table  # one and the same, whatever comes in meanwhile
    if table is None:
        why = shop.trouble.get("prices", f"pricing price makes one in {shop.home}")
        abort(503, f"There is no price table yet: {why}")
    states, seen = shop.states(table)
    return table, states, seen


def _common(shop: Shop, table: Worklist, seen: int) -> dict[str, Any]:
    return {
        "table": table,
        "seen": seen,
        "trouble_lines": list(shop.trouble.values()),
        "beyond": shop.beyond,
        "period": shop.period,
        "version": shop.served.pointer.number if shop.served else None,
        "reasons_known": [code for code, number in _counted(table).most_common() if number],
    }


def ours(address: str | None) -> str:
    """The address where it is of a page of ours, else that of the first one."""
    sound = address is not None and re.fullmatch(r"/(?![/\\])[^\x00-\x20\x7f\\]*", address)
    return address if address and sound else "/"


def _chosen(table: Worklist, states: Ints, form: Any, *, one: str) -> list[int]:
    """The rows that a form means: one, those ticked, or all of its list. Aborts where there are none."""
    if form.get("scope") == "all" and not one:
        rows = table.pick(Pick.of(dict(parse_qsl(form.get("query", "")))), states)
        if str(len(rows)) != form.get("count"):
            said = f"it had {form.get('count')} products when you saw it, and has {len(rows)} now"
            raise ConflictError({"the list": said})
        found: list[int] = rows.tolist()
    else:
        named = [one] if one else form.getlist("product")
        found = [table.rows[product] for product in named if product in table.rows]
    if not found:
        abort(400, "no product is ticked")
    return found


def _change(text: str | None) -> float:
    try:
        value = float((text or "0").replace(",", "."))
    except ValueError:
        abort(400, "expected per cent, such as -5")
    if not -90 <= value <= 400:
        abort(400, "expected a change between −90 and 400 per cent")
    return value


def _until(shop: Shop) -> str:
    return (shop.now().date() + dt.timedelta(days=OVERRIDE_DAYS)).isoformat()


def _understood(shop: Shop, table: Worklist, row: int) -> dict[str, Any]:
    """What is drawn and told of a product, as far as version and panel tell it."""
    found: dict[str, Any] = dict.fromkeys(("sales", "curve", "steps", "elasticity", "summary"))
    product, panel, served = str(table.text["product_id"][row]), shop.panel, shop.served
    if panel is not None and (place := _place(panel.product_ids, product)) is not None:
        found["sales"] = charts.history(panel, place)
    if served is None:
        return found
    asked, day = shop.request(table, row), shop.day(table)
    middle, proposed = float(table.number["list_price"][row]), float(table.number["proposed_price"][row])
    ends = (
        min(middle * (1 - WIDE), table.before[row], proposed),
        max(middle * (1 + WIDE), table.before[row], proposed),
    )
    prices = [float(price) for price in np.linspace(*ends, PRICES_TRIED)]
    try:
        elasticity = _elasticity(served, product)
        found["elasticity"] = elasticity
        told = Told(elasticity["own"]["elasticity"] if elasticity else None)
        explained = explain(asked, served.pricer, today=day, told=told)
        found["steps"], found["summary"] = charts.waterfall(explained), explained
        found["curve"] = charts.curve(served.pricer.simulate(asked, today=day, prices=prices), proposed=proposed)
    except RequestError as error:
        found["summary"] = None
        found["untold"] = str(error)
    return found


def _elasticity(served: Served, product: str) -> dict[str, Any] | None:
    """A product's elasticity beside its category's; None where the version does not know it."""
    demand = served.version.demand
    row = _place(demand.product_ids, product)
    if row is None:
        return None
    columns = shown_elasticities(demand, np.array([row]), holds_only=served.version.holds_only)
    mean, low, high = (
        float(ends[0]) for ends in demand.elasticities(np.array([len(demand.product_ids) + demand.category[row]]))
    )
    return {
        "own": {name: column[0].item() for name, column in columns.items()},
        "category": {"elasticity": mean, "low": low, "high": high},
    }


def _place(among: NDArray[Any], wanted: Any) -> int | None:
    """The place of one of the sorted values; None where it is not among them."""
    place = int(np.searchsorted(among, wanted))
    return place if place < len(among) and among[place] == wanted else None


def _decisions(shop: Shop, product: str) -> list[dict[str, Any]]:
    """The last decisions on a product, newest first, with what sold on their days where the panel knows."""
    query = (
        'SELECT "at", date, recommended_price, current_price, expected_units, confidence, source, reasons '
        'FROM decisions WHERE product_id = ? ORDER BY "at" DESC LIMIT 20'
    )
    with open_log(shop.log, since=shop.now().date() - dt.timedelta(days=LOG_DAYS), few=1) as (con, _):
        answer = con.execute(query, [product])
        names = [column[0] for column in answer.description]
        found = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
    panel = shop.panel
    place = None if panel is None else _place(panel.product_ids, product)
    for one in found:
        one["sold"] = one["charged"] = None
        day = None if panel is None else _place(panel.dates, np.datetime64(one["date"]))
        if panel is not None and place is not None and day is not None and panel.present[place, day]:
            one["sold"], one["charged"] = float(panel.units_sold[place, day]), float(panel.price[place, day])
    return found


@lru_cache(maxsize=1)
def _counted(table: Worklist) -> Counter[str]:
    """Reason → how many products have it."""
    return Counter({code: int(((table.bits & bit) > 0).sum()) for code, bit in BIT.items()})


@lru_cache(maxsize=1)
def _categories(table: Worklist) -> list[tuple[str, float, int, int, int]]:
    """Category, its expected gain, and how many of its prices rise, fall and stay; most gain first."""
    names, place = np.unique(table.text["category"], return_inverse=True)
    counts = [
        np.bincount(place[mask], minlength=len(names))
        for mask in (table.change > 0, table.change < 0, table.change == 0)
    ]
    gains = np.bincount(place, weights=table.gain, minlength=len(names))
    rows = zip(names.tolist(), gains.tolist(), *(count.tolist() for count in counts), strict=True)
    return sorted(rows, key=lambda one: -one[1])


def _tile(shop: Shop, show: str, name: str) -> str:
    """The name of a list; where no move waits for anybody, the first is of those that are made."""
    return "move" if show == "todo" and shop.beyond is None else name
