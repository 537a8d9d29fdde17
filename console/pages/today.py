"""The list of proposals, and the form that decides on them."""

import math
from collections.abc import Mapping
from urllib.parse import parse_qsl

from flask import Blueprint, abort, flash, redirect, render_template, request
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from console import words
from console.access import own_address
from console.confirm import confirmation
from console.decisions import decisions_of
from console.pages.common import current_shop, current_table, line, reasons_by_frequency
from console.worklist import PAGE, Pick, Worklist
from pricing.decision.switches import Switch
from pricing.errors import ConflictError
from pricing.registry.control import refuse_unseen

_DONE: Mapping[str, str] = {
    "approve": "approved",
    "reject": "rejected",
    "freeze": "frozen",
    "unfreeze": "freed",
    "change": "given another price",
}
MOST_ENTRIES = 2**31 - 1  # of a record, by the type of its column
page = Blueprint("today", __name__)


@page.get("/")
def show() -> str:
    """Shows the list that the address asks for, with what each list holds under the same filters."""
    table = current_table()
    pick = Pick.of(request.args)
    rows = table.pick(pick)
    matching = table.matching(pick)
    count, money = table.counted(table.shown(pick.show) & matching)
    first = (pick.page - 1) * PAGE
    return render_template(
        "today.html",
        table=table,
        pick=pick,
        count=count,
        money_of=money,
        lines=[line(table, row) for row in rows[first : first + PAGE].tolist()],
        pages=max(math.ceil(len(rows) / PAGE), 1),
        tiles={name: table.counted(table.shown(name) & matching) for name in words.SHOWN if name != "all"},
        reasons_known=reasons_by_frequency(table),
    )


@page.post("/decide")
def decide() -> Response | str:
    """Writes what the form decides on the products that it means, or asks once more where that may be a slip."""
    shop = current_shop()
    table = current_table()
    form = request.form
    if form.get("table") != table.key:
        raise ConflictError({"the price table": "a newer one came in; look at the new proposals first"})

    # The button beside a product names both, as approve:P00001.
    action, _, product = (form.get("one") or form.get("action", "")).partition(":")
    if action not in _DONE:
        abort(400, "the form names no action")
    rows = _chosen(table, form, product)
    seen = form.get("seen", 0, type=int)
    if not 0 <= seen <= MOST_ENTRIES:
        abort(400, "this form is not one of ours: open the page again")
    products = set(table.text["product_id"][rows].tolist())
    refuse_unseen(shop.record.entries(after=seen), products)  # before what they decided makes it a wrong choice

    decisions = decisions_of(shop, table, action, rows, form=form)
    typed = {each.name: each.price for each in decisions if isinstance(each, Switch) and each.price is not None}
    back = own_address(form.get("back"))
    if asked := confirmation(shop, table, typed, back=back):
        return asked
    shop.write(*decisions, seen=seen)
    flash(f"{len(rows):,} product{'' if len(rows) == 1 else 's'} {_DONE[action]}.")
    return redirect(back)


def _chosen(table: Worklist, form: MultiDict[str, str], product: str) -> list[int]:
    """The rows that a form means: of one product, of those ticked, or of its whole list. Aborts without any.

    Raises:
        ConflictError: The list has another number of products than the person saw.
    """
    if form.get("scope") == "all" and not product:
        rows: list[int] = table.pick(Pick.of(dict(parse_qsl(form.get("query", ""))))).tolist()
        if str(len(rows)) != form.get("count"):
            changed = f"it had {form.get('count')} products when you saw it, and has {len(rows)} now"
            raise ConflictError({"the list": changed})
    else:
        named = [product] if product else form.getlist("product")
        rows = [table.rows[name] for name in named if name in table.rows]
    if not rows:
        abort(400, "no product is ticked")
    return rows
