"""Write the page of a night's sales: what was read, what to do about it, and what each product's history can teach."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np

from pipelines.reports import render
from pricing import __version__
from pricing.data.anchors import Anchors
from pricing.data.findings import Finding
from pricing.data.panel import Panel
from pricing.demand.grades import GRADES, gather_evidence, grade_products, why_held
from pricing.errors import SourceError
from pricing.fileio import replace_text

PAGE = "etl_report.html"
_MOST_PRODUCTS = 2000  # in the table, those that sell most; the page stays below a megabyte


def page_file(panel: Path) -> Path:
    """The page beside a saved panel's folder."""
    return panel.with_name(f"{panel.name}.{PAGE}")


def read_file(panel: Path) -> Path:
    """The JSON beside a saved panel's folder that tells what the program etl read."""
    return panel.with_name(f"{panel.name}.etl.json")


def write_page(
    place: Path, *, sales: str, findings: Sequence[Finding], panel: Panel | None, anchors: Anchors | None, error: str
) -> None:
    """Writes the page beside the panel's folder `place`, logs it to the active run, and prints where it lies.

    Where the job stopped, `error` says why, and there may be no panel; since the anchors in force prices may be the
    platform's own.

    Raises:
        SourceError: It cannot be written.
    """
    beside = read_file(place)
    read: Mapping[str, Any] = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    error = (error and read.get("error")) or error
    tasks = [one for one in findings if one.level != "note"]
    faults = [f"{name}: {why}" for name, why in read.get("faults", {}).items()]
    headline = f"Sales are in, {len(tasks) + len(faults) or 'nothing'} to look at"
    headline = "The sales stop the job" if error else headline
    text = render(
        "etl_page.html.jinja",
        title=headline,
        error=error,
        tasks=tasks,
        faults=faults,
        notes=[one for one in findings if one.level == "note"],
        sales=sales,
        read=read,
        taught=None if panel is None else _taught(panel, anchors),
        made=f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC",
        version=__version__,
    )
    path = page_file(place)
    try:
        replace_text(path, text)
    except OSError as failed:
        raise SourceError(f"{path}: the page cannot be written ({failed.strerror})") from failed
    mlflow.log_text(text, PAGE)
    print(f"{headline}: {path}")


def _taught(panel: Panel, anchors: Anchors | None) -> dict[str, Any]:
    """The best that training can learn from each product's history, those that sell most first; products by grade."""
    own = None if anchors is None else np.broadcast_to(panel.dates >= anchors.since, panel.present.shape)
    evidence = gather_evidence(panel, own=own)
    grade = grade_products(evidence, panel)
    units = np.where(panel.present, np.nan_to_num(panel.units_sold), 0.0).sum(axis=1, dtype=np.float64)
    products = [
        {
            "product_id": str(panel.product_ids[row]),
            "category": str(panel.categories[row]),
            "rows": int(panel.present[row].sum()),
            "units": float(units[row]),
            **(told := {name: int(getattr(evidence, name)[row]) for name in ("moves", "fortnights")}),
            "prices": int(evidence.prices[row]),
            "grade": GRADES[grade[row]],
            "why": why_held(int(grade[row]), **told),
        }
        for row in np.argsort(-units, kind="stable")[:_MOST_PRODUCTS].tolist()
    ]
    counts = {GRADES[one]: int((grade == one).sum()) for one in np.unique(grade).tolist()[::-1]}
    return {"products": products, "counts": counts, "count": len(units)}
