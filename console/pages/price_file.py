"""Price files: write the changes of a list, download or send them, and read decisions back."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Blueprint, Response, abort, flash, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as Answer

from console.confirm import confirmation
from console.decisions import Decision, decisions_of
from console.pages.common import current_shop, current_table
from console.price_files import PriceFiles, changes
from console.worklist import Pick, Worklist
from pricing.errors import ConflictError, DeliveryError
from pricing.registry.control import refuse_unseen

page = Blueprint("price_file", __name__)


@page.get("/price-file")
def show() -> str:
    """Shows the newest files, and the forms that write one and read one back."""
    table = current_table()
    written = _files().newest()
    counts = {"wait": table.counted(table.waits)[0], "may be charged": table.counted(table.charges)[0]}
    for state in ("exported", "failed"):
        counts[state] = sum(len(file.approved) for file in written if file.state == state)
    push = current_shop().config.console.push_url is not None
    return render_template("price_file.html", table=table, counts=counts, files=written, push=push)


@page.post("/price-file")
def write() -> Answer:
    """Writes a file of the changes of a list."""
    table = current_table()
    rows = table.pick(Pick.of({"show": "all", **request.form.to_dict()}))
    found = changes(table, rows, decision=current_shop().decision)
    file = _files().write(found, by=g.person.name, at=dt.datetime.now(dt.UTC), seen=table.seen)
    flash(f"A file with {len(file.rows):,} changes was written; {len(file.approved):,} of them may be charged.")
    return redirect(url_for("price_file.show"))


@page.get("/price-file/<name>.csv")
def download(name: str) -> Response:
    """Gives a file as CSV, and notes that somebody who decides took it."""
    files = _files()
    file = files.find(name)
    if file.state == "written" and g.person.decides:
        file.state = "exported"
        files.keep(file)
    headers = {"Content-Disposition": f'attachment; filename="prices-{name}.csv"'}
    return Response(file.as_csv(), mimetype="text/csv", headers=headers)


@page.post("/price-file/<name>/send")
def send(name: str) -> Answer:
    """Sends the approved prices of a file where they are still approved, and notes what became of it."""
    files = _files()
    file = files.find(name)
    url = current_shop().config.console.push_url
    if url is None:
        abort(400, "console.push_url names nobody to send prices to")
    _refuse_stale(current_table(), file.approved, "charged", "this price is no longer approved; write a new file")
    try:
        file.send(url.get_secret_value())
        file.state = "exported"
        file.detail = f"sent by {g.person.name}"
        flash(f"{len(file.approved):,} approved prices were taken.")
    except DeliveryError as error:
        file.state = "failed"
        file.detail = str(error)
        flash(str(error))
    files.keep(file)
    return redirect(url_for("price_file.show"))


@page.post("/price-file/read")
def read() -> Answer | str:
    """Writes the decisions of a file that a person filled in, or asks once more where that may be a slip."""
    shop = current_shop()
    table = current_table()
    content = _sent()
    file, decided = _files().read_back(content)
    refuse_unseen(shop.record.entries(after=file.seen), set(decided))
    rows = [row for row in file.rows if row["product_id"] in decided]
    _refuse_stale(table, rows, "proposed_price", "another price is proposed by now")

    decisions: list[Decision] = []
    for action, note in sorted(set(decided.values())):
        chosen = [table.rows[product] for product, each in decided.items() if each == (action, note)]
        decisions += decisions_of(shop, table, action, chosen, form={"reason": note or f"price file {file.name}"})
    approved = {row["product_id"]: row["new"] for row in rows if decided[row["product_id"]][0] == "approve"}
    if asked := confirmation(shop, table, approved, back=url_for("price_file.show"), content=content.decode()):
        return asked
    shop.write(*decisions, seen=file.seen)
    flash(f"{len(decided):,} decisions were read from the file.")
    return redirect(url_for("price_file.show"))


def _files() -> PriceFiles:
    shop = current_shop()
    return PriceFiles(shop.store, model=shop.model)


def _sent() -> bytes:
    """The file that was uploaded, or that the page which asks once more sends again; aborts with 400 without any."""
    upload = request.files.get("file")
    if upload is not None and upload.filename:
        return bytes(upload.read())
    content = request.form.get("content") or abort(400, "no file was chosen")
    return content.encode()


def _refuse_stale(table: Worklist, rows: Sequence[Mapping[str, Any]], name: str, why: str) -> None:
    """Raises ConflictError where a price of a file is not that of the table any more."""
    now = dict(zip(table.rows, table.number[name].tolist(), strict=True))
    if stale := [row["product_id"] for row in rows if now.get(row["product_id"]) != row["new"]]:
        raise ConflictError(dict.fromkeys(stale, why))
