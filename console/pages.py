"""The pages and what their forms do."""

import datetime as dt
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pandas as pd
from flask import Flask, abort, flash, g, redirect, render_template, request, session, url_for
from numpy.typing import NDArray
from werkzeug.wrappers import Response

from console import charts, words
from console.access import Access
from console.confirm import SHOWN, doubtful
from console.price_file import PriceFiles, changes, send
from console.shop import Served, Shop
from console.what_if import MOST, try_prices
from console.worklist import APPROVED, AUTOMATIC, BY_HAND, PAGE, STATES, WAYS, Pick, Worklist
from pricing.decision.allowed_prices import PriceGrid
from pricing.decision.explanation import explain
from pricing.decision.reasons import BIT, GUARDRAILS, REASONS, meanings
from pricing.decision.switches import Review, Switch, Unfreeze
from pricing.errors import ConflictError, DeliveryError, RequestError
from pricing.registry.control import refuse_unseen
from pricing.registry.version import shown_elasticities

PRICES_TRIED = 25  # of a curve
WIDE = 0.35  # how far from list price a curve reaches, a fraction
HIGHEST = 1e9  # of a price


def pages(app: Flask, shop: Shop) -> None:  # noqa: PLR0915 - one view after the other
    """Adds the pages to the application."""
    files = PriceFiles(shop.store, model=shop.model)

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
        table = _state(shop)
        pick = Pick.of(request.args)
        rows, matching = table.pick(pick), table.matching(pick)
        count, money = table.counted(table.shown(pick.show) & matching)
        lists = {show: table.counted(table.shown(show) & matching) for show in words.SHOWN if show != "all"}
        return render_template(
            "today.html",
            table=table,
            pick=pick,
            count=count,
            money_of=money,
            lines=[line(shop, table, row) for row in rows[(pick.page - 1) * PAGE : pick.page * PAGE].tolist()],
            pages=max(-(-len(rows) // PAGE), 1),
            tiles=lists,
            reasons_known=[code for code, number in _counted(table).most_common() if number],
        )

    @app.post("/decide")
    def decide() -> Response | str:
        table = _state(shop)
        if request.form.get("table") != table.key:
            raise ConflictError({"the price table": "a newer one came in; look at the new proposals first"})
        one = request.form.get("one", "")
        action, product = one.partition(":")[::2] if one else (request.form.get("action", ""), "")
        if action not in _DONE:
            abort(400, "the form names no action")
        rows = _chosen(table, request.form, one=product)
        seen, products = request.form.get("seen", 0, type=int), set(table.text["product_id"][rows].tolist())
        refuse_unseen(shop.record.entries(after=seen), products)  # before what they said makes it a wrong choice
        said = spoken(shop, table, action, rows, form=request.form)
        given = {one.name: one.price for one in said if isinstance(one, Switch) and one.price is not None}
        if asked := _asked(shop, table, given, back=request.form.get("back")):
            return asked
        shop.say(*said, seen=seen)
        flash(f"{len(rows):,} product{'' if len(rows) == 1 else 's'} {_DONE[action]}.")
        return redirect(ours(request.form.get("back")))

    @app.get("/products/<path:product>")
    def one_product(product: str) -> str:
        table = _state(shop)
        row = table.rows.get(product)
        if row is None:
            abort(404, f"no product {product!r} is in the price table")
        said = (str(table.text[name][row]).split() for name in ("reasons", "binds", "gave_way"))
        return render_template(
            "product.html",
            table=table,
            line=line(shop, table, row),
            word=shop.hear().words.get(product),
            reasons=meanings(*said).values(),
            **_understood(shop, table, row),
        )

    @app.get("/what-if")
    def what_if() -> str:
        table = _state(shop)
        product, given, pick = request.args.get("product", ""), request.args, Pick.of(request.args)
        known = table.rows.get(product)
        rows = table.pick(pick) if known is None else np.array([known])
        change, strategy = _change(given.get("change")), given.get("try", "")
        served, tried, trouble = shop.served, None, "" if len(rows) else "No product is in this list."
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
            table=table,
            pick=pick,
            product=product if known is not None else "",
            change=change,
            strategy=strategy,
            tried=tried,
            trouble=trouble,
            left_out=len(rows) - len(tried.rows) if tried else 0,
            most=MOST,
            lines=[(line(shop, table, row), price) for row, price in tried.rows[:PAGE]] if tried else (),
        )

    @app.get("/portfolio")
    def portfolio() -> str:
        table = _state(shop)
        ways = {way: table.matching(Pick(way=way)) for way in WAYS}
        counted = [(code, number) for code, number in _counted(table).most_common() if number]
        return render_template(
            "portfolio.html",
            table=table,
            ways={way: table.counted(rows) for way, rows in ways.items()},
            moves=table.counted(~ways["stay"]),
            counts={
                "At which limit": [one for one in counted if one[0] in GUARDRAILS],
                "Why prices stay": [one for one in counted if one[0] in _WHY_HELD],
            },
            categories=_categories(table),
            REASONS=REASONS | GUARDRAILS,
        )

    @app.get("/price-file")
    def price_file() -> str:
        table = _state(shop)
        written = files.newest()
        counts = {"wait": table.counted(table.waits)[0], "may be charged": table.counted(table.charges)[0]}
        for state in ("exported", "failed"):
            counts[state] = sum(len(one.approved) for one in written if one.state == state)
        url = shop.config.console.push_url is not None
        return render_template("price_file.html", table=table, counts=counts, files=written, push=url)

    @app.post("/price-file")
    def make_file() -> Response:
        table = _state(shop)
        rows = table.pick(Pick.of({"show": "all", **request.form.to_dict()}))
        news = changes(table, rows, decision=shop.decision)
        made = files.write(news, by=g.person.name, at=dt.datetime.now(dt.UTC), seen=table.seen)
        flash(f"A file with {len(made.rows):,} changes was written; {len(made.approved):,} of them may be charged.")
        return redirect(url_for("price_file"))

    @app.get("/price-file/<name>.csv")
    def download(name: str) -> Response:
        file = files.find(name)
        if file.state == "written" and g.person.decides:
            file.state = "exported"
            files.keep(file)
        headers = {"Content-Disposition": f'attachment; filename="prices-{name}.csv"'}
        return app.response_class(file.as_csv(), mimetype="text/csv", headers=headers)

    @app.post("/price-file/<name>/send")
    def send_file(name: str) -> Response:
        file, url = files.find(name), shop.config.console.push_url
        if url is None:
            abort(400, "console.push_url names nobody to send prices to")
        table = _state(shop)
        _refuse_stale(table, file.approved, "charged", "this price is no longer approved; write a new file")
        try:
            send(file, url.get_secret_value())
            file.state, file.detail = "exported", f"sent by {g.person.name}"
            flash(f"{len(file.approved):,} approved prices were taken.")
        except DeliveryError as error:
            file.state, file.detail = "failed", str(error)
            flash(str(error))
        files.keep(file)
        return redirect(url_for("price_file"))

    @app.post("/price-file/read")
    def read_file() -> Response | str:
        table = _state(shop)
        sent, content = request.files.get("file"), request.form.get("content", "").encode()
        if sent is not None and sent.filename:
            content = sent.read()
        elif not content:
            abort(400, "no file was chosen")
        file, decided = files.read_back(content)
        refuse_unseen(shop.record.entries(after=file.seen), set(decided))
        rows = [row for row in file.rows if row["product_id"] in decided]
        _refuse_stale(table, rows, "proposed_price", "another price is proposed by now")
        said: list[Switch | Unfreeze | Review] = []
        for word, note in sorted(set(decided.values())):
            chosen = [table.rows[product] for product, one in decided.items() if one == (word, note)]
            said += spoken(shop, table, word, chosen, form={"reason": note or f"price file {file.name}"})
        approved = {row["product_id"]: row["new"] for row in rows if decided[row["product_id"]][0] == "approve"}
        if asked := _asked(shop, table, approved, content=content.decode()):
            return asked
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
    shop: Shop, table: Worklist, action: str, rows: Sequence[int], *, form: Mapping[str, str]
) -> list[Switch | Unfreeze | Review]:
    """What a person says by a form: one verdict on all products, or a switch for each. Aborts where it is none."""
    moment, products = dt.datetime.now(dt.UTC).replace(microsecond=0), table.text["product_id"][rows].tolist()
    reason = form.get("reason", "").strip()[:1000] or ("as proposed" if action == "approve" else "")
    if not reason:
        abort(400, "say why, in the field beside the buttons: whoever reads the record later wants to know")
    given: dict[str, Any] = {"reason": reason, "by": g.person.name, "at": moment}
    if action in ("approve", "reject"):
        if shop.beyond is None:
            abort(400, "no price waits for approval: decision.approve_beyond is not set; a freeze keeps one")
        if (table.state[rows] == BY_HAND).any():
            abort(400, "some of these prices are set by hand: set them free first")
        if action == "reject" and np.isin(table.state[rows], (AUTOMATIC, APPROVED)).any():
            abort(400, "some of these prices wait for nobody: a rejection would not keep them, a freeze does")
        prices = dict(zip(products, table.number["proposed_price"][rows].tolist(), strict=True))
        return [Review(verdict=action, prices=prices, **given)]  # type: ignore[arg-type]
    scoped = [{**given, "scope": "product", "name": product} for product in products]
    if action == "unfreeze":
        own = {switch.name for switch in table.switches if switch.scope == "product"}
        if not own.issuperset(products):
            abort(400, "some of these are set for their category or for everything: pricing unfreeze ends that")
        return [Unfreeze(**one) for one in scoped]
    if action == "freeze":
        return [Switch(action="freeze", **one) for one in scoped]
    payable, until = _given(shop, table, rows, form, after=moment)
    return [
        Switch(action="override", price=price, until=until, **one) for price, one in zip(payable, scoped, strict=True)
    ]


def _asked(
    shop: Shop, table: Worklist, prices: Mapping[str, float], *, back: str | None = None, content: str = ""
) -> str:
    """The page that asks about prices once more, and sends the form again; empty where they are sure or no doubt is."""
    asked = [] if request.form.get("sure") else doubtful(shop, table, prices)
    kept = [*request.form.items(multi=True), *([("content", content)] if content else [])]
    known = {"count": len(prices), "kept": kept, "most": SHOWN, "raised": not content}
    address = url_for("price_file") if content else ours(back)
    return render_template("confirm.html", table=table, asked=asked, back=address, **known) if asked else ""


def _given(
    shop: Shop, table: Worklist, rows: Sequence[int], form: Mapping[str, str], *, after: dt.datetime
) -> tuple[list[float], dt.datetime]:
    """The prices that a form gives, in whole steps, and when they end. Aborts where they cannot be meant."""
    price, percent = form.get("price", "").replace(",", "."), _change(form.get("percent"))
    try:
        day = dt.date.fromisoformat(form.get("until") or shop.soon)
        wanted = np.array([float(price)]) if price else table.before[rows] * (1 + percent / 100)
    except ValueError:
        abort(400, "expected a price such as 4.99, and a day such as 2026-03-06")
    if not price and not percent:
        abort(400, "say which price, or by how many per cent it changes")
    if len(wanted) != len(rows):
        abort(400, "one price is for one product; change many by per cent")
    if not ((wanted > 0) & (wanted < HIGHEST)).all():
        abort(400, "expected a price above 0 that somebody could pay")
    until = shop.config.end_of(day)
    if until <= after:
        abort(400, "that day is past")
    prices: list[float] = PriceGrid(shop.decision.price_step).nearest(wanted).tolist()
    return prices, until


def line(shop: Shop, table: Worklist, row: int) -> dict[str, Any]:
    """A row of the table, with what its figures mean in words."""
    text = {name: str(values[row]) for name, values in table.text.items()}
    number = {name: float(values[row]) for name, values in table.number.items()}
    known = {
        "product": text["product_id"],
        "before": float(table.before[row]),
        "change": float(table.change[row]),
        "why": table.why(row, shop.decision),
        "binds": words.binding(int(table.bits[row])),
        "cover": words.cover(number["current_stock"], number["expected_units"], shop.period),
        "state": STATES[table.state[row]],
    }
    return text | number | known


def _state(shop: Shop) -> Worklist:
    """The table with every person's word. Aborts without a table."""
    table = shop.standing()
    if table is None:
        why = shop.trouble.get("prices", "pricing price makes one")
        abort(503, f"There is no price table yet: {why}")
    return table


def _refuse_stale(table: Worklist, rows: Sequence[Mapping[str, Any]], name: str, why: str) -> None:
    """Raises ConflictError where a price of a file is not that of the table any more."""
    now = dict(zip(table.rows, table.number[name].tolist(), strict=True))
    if stale := [row["product_id"] for row in rows if now.get(row["product_id"]) != row["new"]]:
        raise ConflictError(dict.fromkeys(stale, why))


def ours(address: str | None) -> str:
    """The address where it is of a page of ours, else that of the first one."""
    sound = address is not None and re.fullmatch(r"/(?![/\\])[^\x00-\x20\x7f\\]*", address)
    return address if address and sound else "/"


def _chosen(table: Worklist, form: Any, *, one: str) -> list[int]:
    """The rows that a form means: one, those ticked, or all of its list. Aborts where there are none."""
    if form.get("scope") == "all" and not one:
        rows = table.pick(Pick.of(dict(parse_qsl(form.get("query", "")))))
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


def _understood(shop: Shop, table: Worklist, row: int) -> dict[str, Any]:
    """What is drawn and told of a product, as far as version and panel tell it."""
    found: dict[str, Any] = {}
    product, panel, served = str(table.text["product_id"][row]), shop.panel, shop.served
    if panel is not None and (place := _place(panel.product_ids, product)) is not None:
        found["sales"] = charts.history(panel, place)
    if served is None:
        return found
    found["delivery"] = served.version.facts.next_delivery(product)
    asked, day = shop.request(table, row), shop.day(table)
    middle, shown = float(table.number["list_price"][row]), float(table.number["proposed_price"][row])
    lowest, highest = (
        most(middle * (1 + reach), float(table.before[row]), shown) for most, reach in ((min, -WIDE), (max, WIDE))
    )
    prices = np.linspace(lowest, highest, PRICES_TRIED).tolist()
    found["elasticity"] = elasticity = _elasticity(served, product)
    own = elasticity["own"]["elasticity"] if elasticity else None
    try:
        found["summary"] = explain(
            asked,
            served.pricer,
            today=day,
            switches=table.switches,
            experiments=shop.hear().control().experiments,
            elasticity=own,
        )
        found["steps"] = charts.waterfall(found["summary"])
        tried = served.pricer.simulate(asked, today=day, prices=prices)
        word = "by hand" if table.state[row] == BY_HAND else "proposed"
        found["curve"] = charts.curve(tried, marked=shown, word=word)
    except RequestError as error:
        found["untold"] = str(error)
    return found


def _elasticity(served: Served, product: str) -> dict[str, Any] | None:
    """A product's elasticity beside its category's; None where the version does not know it."""
    demand, row = served.version.demand, _place(served.version.demand.product_ids, product)
    if row is None:
        return None
    columns = shown_elasticities(demand, np.array([row]), holds_only=served.version.holds_only)
    mean, low, high = demand.elasticities(np.array([len(demand.product_ids) + demand.category[row]]))
    category = {"elasticity": float(mean[0]), "low": float(low[0]), "high": float(high[0])}
    return {"own": {name: column[0].item() for name, column in columns.items()}, "category": category}


def _place(among: NDArray[Any], wanted: Any) -> int | None:
    """The place of one of the sorted values; None where it is not among them."""
    place = int(np.searchsorted(among, wanted))
    return place if place < len(among) and among[place] == wanted else None


@lru_cache(maxsize=1)
def _counted(table: Worklist) -> Counter[str]:
    """Reason → how many products have it."""
    return Counter({code: table.counted(table.matching(Pick(reason=code)))[0] for code in BIT})


@lru_cache(maxsize=1)
def _categories(table: Worklist) -> list[Any]:
    """Each category with its expected gain, and how many of its prices rise, fall and stay; most gain first."""
    ways = {way: table.matching(Pick(way=way)) for way in WAYS}
    frame = pd.DataFrame({"name": table.text["category"], "gain": table.gain, **ways})
    return list(frame.groupby("name", as_index=False).sum().sort_values("gain", ascending=False).itertuples())
