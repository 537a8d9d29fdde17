"""The page that shows a sensitivity analysis to a person: one HTML file that needs nothing beside it."""

import base64
from collections.abc import Mapping
from html import escape

import numpy as np
import pandas as pd

from pipelines.sensitivity import Sensitivity
from pricing.demand.sensitivity import CONTEXTS, ORDINARY

ROWS = 100  # products shown; all are in summary.parquet
NOTHING = 0.02  # a difference of elasticities below this is none
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1080px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; } img { max-width: 100%; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .55em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { border-bottom: 2px solid #888; font-weight: 600; } th:first-child, td:first-child { text-align: left; }
.note { color: #555; }
"""


def sensitivity_page(found: Sensitivity, plots: Mapping[str, bytes], *, title: str) -> str:
    """Writes the page.

    Args:
        found: The tables.
        plots: PNG images by name, shown in order.
        title: What the page is about.
    """
    shown = min(ROWS, len(found.summary))
    parts = [
        f"<h1>{escape(title)}</h1>",
        '<p class="note">An elasticity of −2 means: one per cent dearer, two per cent fewer units. It is the slope of '
        "the demand that the model expects, towards lower prices. Intervals hold 80 % of what the model takes for "
        "possible; they do not hold what drove both price and demand and is not in the data. They are of expectations, "
        "without the luck of single days, and stock is taken to be ample.</p>",
        "<h2>What it depends on</h2>",
        _list(dependence(found)),
        _contexts(found),
        "<h2>Categories</h2>",
        _categories(found),
        *(_image(name, image) for name, image in plots.items()),
        f"<h2>Products{f', the {shown} that earn most' if shown < len(found.summary) else ''}</h2>",
        _products(found, shown),
        '<p class="note">summary.parquet holds every product; products.parquet the curves of up to '
        f"{found.products['product_id'].nunique()} products over price and context; categories.parquet those of "
        "categories.</p>",
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def dependence(found: Sensitivity) -> list[str]:
    """What the model's elasticity depends on and what it does not, as sentences, read from the tables themselves."""
    table = found.products
    plain = table[table["context"] == ORDINARY.name].set_index(["product_id", "ratio"])
    sentences, same = [], []
    for context in table["context"].unique():
        if context == ORDINARY.name:
            continue
        other = table[table["context"] == context].set_index(["product_id", "ratio"])
        apart = (other["elasticity"] - plain["elasticity"]).abs()
        most = float(apart.max())
        if most < NOTHING:
            same.append(context)
            continue
        where = apart[apart > NOTHING].index.get_level_values("ratio")
        sentences.append(
            f"{context.capitalize()}: differs from ordinary days by up to {most:.2f}, at price levels from "
            f"{where.min():.0%} to {where.max():.0%} of list price; for the middle product by "
            f"{float(apart.groupby('ratio').median().max()):.2f}."
        )
    if same:
        sentences.append(
            f"Not on: {', '.join(same)}. There more or less sells, and it answers to price as on ordinary days."
        )
    ends = plain["elasticity_low"].unstack()
    bend = float((ends.iloc[:, 0] - ends.iloc[:, -1]).abs().max())
    change = plain["elasticity"].unstack()
    drift = float((change.iloc[:, -1] - change.iloc[:, 0]).median())
    if bend < NOTHING:
        sentences.append(
            "Price level: each curve that the model takes for possible has one elasticity at all prices. What is "
            f"expected of them all is flatter at high prices (by {drift:.2f} from end to end for the middle product): "
            "there the less elastic of the possible curves sell most of what is sold."
        )
    else:
        sentences.append(
            f"Price level: from the lowest to the highest it moves by {drift:+.2f} for the middle product."
        )
    return sentences


def _contexts(found: Sensitivity) -> str:
    table = found.categories[np.isclose(found.categories["ratio"], 1.0)]
    units = table.groupby("context")["units"].sum()
    rows = [
        [context.name, f"{units[context.name] / units[ORDINARY.name] - 1:+.1%}"]
        for context in CONTEXTS
        if context.name in units.index and context is not ORDINARY
    ]
    return _table(["context", "units at list price, against ordinary days"], rows)


def _categories(found: Sensitivity) -> str:
    table = found.categories[found.categories["context"] == ORDINARY.name]
    rows = []
    for category, part in table.groupby("category"):
        listed = part[np.isclose(part["ratio"], 1.0)].iloc[0]
        own = found.summary["elasticity"][found.summary["category"] == category]
        best = part.iloc[int(part["profit"].to_numpy().argmax())]
        rows.append(
            [
                str(category),
                f"{len(own):,}",
                f"{listed['elasticity']:.2f}",
                _interval(listed),
                f"{own.quantile(0.1):.2f} to {own.quantile(0.9):.2f}",
                f"{listed['units']:,.1f}",
                f"{listed['profit']:,.2f}",
                f"{best['ratio']:.0%}",
            ]
        )
    head = ["category", "products", "elasticity at list", "80 % interval", "its products, 10–90 %"]
    return _table([*head, "units a period", "profit a period", "most profit at"], rows)


def _products(found: Sensitivity, shown: int) -> str:
    rows = [
        [
            str(row["product_id"]),
            str(row["category"]),
            f"{row['elasticity']:.2f}",
            _interval(row),
            "its own" if row["source"] == "model" else "its category",
            str(row["grade"]).replace("_", " "),
            f"{row['list_price']:,.2f}",
            f"{row['units']:,.2f} ({row['units_low']:,.2f} to {row['units_high']:,.2f})",
            f"{row['profit']:,.2f}",
        ]
        for _, row in found.summary.nlargest(shown, "profit").iterrows()
    ]
    head = ["product", "category", "elasticity at list price", "80 % interval", "history", "grade", "list price"]
    return _table([*head, "units a period", "profit a period"], rows)


def _interval(row: "pd.Series[float]") -> str:
    return f"{row['elasticity_low']:.2f} to {row['elasticity_high']:.2f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    first = "<tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"
    return f'<div class="wide"><table>{first}{"".join(cells)}</table></div>'


def _list(sentences: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def _image(name: str, image: bytes) -> str:
    data = base64.b64encode(image).decode()
    return f'<p><img alt="{escape(name.replace("_", " "))}" src="data:image/png;base64,{data}"></p>'
