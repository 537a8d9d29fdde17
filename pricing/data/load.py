"""Load a panel from what `--sales` names: a path, a URL, a saved panel, the demo data or the simulated market."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from pricing.arrays import Bools
from pricing.config_models import DataConfig
from pricing.csv_text import quote_formulas
from pricing.data.anchors import Anchors
from pricing.data.build import build_panel
from pricing.data.completejourney import completejourney_sales
from pricing.data.contract import COLUMNS, Checked, check
from pricing.data.panel import STEP_DAYS, Event, Panel, is_panel, load_panel
from pricing.data.plausibility import mistyped
from pricing.data.source import read_sales
from pricing.errors import NO_SALES, SIMULATED, ContractError, SourceError
from pricing.fileio import redact_url, replace_atomically

DEMO = "completejourney"
TYPED = "price must not be 100 or 1000 times, or that fraction, of the prices around it"


def load_panel_from(
    sales: str,
    config: DataConfig,
    *,
    quarantine: str | Path | None = None,
    past: Panel | None = None,
    anchors: Anchors | None = None,
    events: tuple[Event, ...] | None = None,
    simulated: Callable[[], pd.DataFrame] | None = None,
) -> Panel:
    """Read sales, check them against the contract and build the panel.

    Args:
        sales: A file, folder or URL for `read_sales`, a folder written by `save_panel`, `completejourney` for the
            weekly grocery sales of that package, or `simulated` for the simulated market.
        config: How the panel is built. The demo's sales are always weekly; a saved panel is returned as built.
        quarantine: A folder for the rows that break the contract and, where `plausibility.refuse` is on, for rows
            whose price is 100 or 1000 times that of the rows around them; None fails the load on any violation.
        past: See `build_panel`: the end of the history, when the sales hold only newer rows.
        anchors: The regular prices in force, for `build_panel`; not applied to a saved panel.
        events: Named events, for `build_panel`; read as `config` says when absent.
        simulated: Function that returns the simulated market's sales, which the library does not import.

    Raises:
        SourceError: No sales are named, `simulated` is named but not supplied, the sales cannot be read, or the
            quarantine cannot be written.
        ContractError: Rows break the contract and there is no quarantine, or no row satisfies it.

    Example:
        >>> import pandas as pd
        >>> from pricing.config import load_config
        >>> from pricing.data.load import load_panel_from
        >>> sales = pd.DataFrame({"date": pd.date_range("2026-03-02", periods=4), "product_id": "tea", "price": 4.99})
        >>> sales = sales.assign(units_sold=[12, 9, 8, 3], stock=[32, 20, 11, 3])
        >>> sales.to_csv("sales.csv", index=False)
        >>> panel = load_panel_from("sales.csv", load_config().data)
        >>> print(panel.units_sold)
        [[12.  9.  8.  3.]]
        >>> print(panel.censored)  # sold out on the last day
        [[False False False  True]]
    """
    if not sales:
        raise SourceError(NO_SALES)
    if sales == SIMULATED:
        if simulated is None:
            raise SourceError(f"there is no simulated market here: name sales of your own instead of {SIMULATED}")
        return _noted(
            build_panel(simulated(), config, anchors=anchors, events=events),
            ["the sales are those of the simulated market."],
        )
    if sales == DEMO:
        frame = completejourney_sales()
        return _noted(
            build_panel(frame, config.model_copy(update={"period": "week"}), anchors=anchors, events=events),
            frame.attrs["notes"],
        )
    if is_panel(sales):
        return load_panel(sales)
    where = redact_url(sales)
    rows = read_sales(sales, columns=tuple(COLUMNS), sql_seconds=config.sql_seconds)
    checked = check(rows, where=where, period=config.period)
    if checked.violations and (quarantine is None or checked.clean.empty):
        raise ContractError(where, checked.violations)
    panel = build_panel(checked.clean, config, past=past, anchors=anchors, events=events)
    if quarantine is None:
        return _noted(panel, checked.notes)
    if config.plausibility.refuse and (typed := mistyped(panel)).any():
        checked = checked.without(_rows(checked.clean, panel, typed), rule=TYPED)
        panel = build_panel(checked.clean, config, past=past, anchors=anchors, events=events)
    if not checked.violations:
        return _noted(panel, checked.notes)
    path = _set_aside(checked, Path(quarantine))
    broken = [f"{fault.rule}: {fault.count:,} rows, first {fault.first}." for fault in checked.violations]
    return _noted(panel, (f"{len(checked.bad_rows):,} bad rows are set aside in {path}.", *broken, *checked.notes))


def _rows(frame: pd.DataFrame, panel: Panel, marked: Bools) -> Bools:
    """(row,) whether a frame's row is marked, (product, period), in the panel built from it."""
    chosen = np.zeros(len(frame), dtype=np.bool_)
    places = np.flatnonzero(frame["product_id"].isin(panel.product_ids[marked.any(axis=1)]))
    rows = frame.iloc[places]
    products = np.searchsorted(panel.product_ids, rows["product_id"].astype(str).to_numpy(dtype=np.str_))
    days = rows["date"].to_numpy().astype("datetime64[D]") - panel.dates[0]
    chosen[places] = marked[products, days.astype(np.int64) // STEP_DAYS[panel.period]]
    return chosen


def _noted(panel: Panel, notes: Sequence[str]) -> Panel:
    return replace(panel, notes=(*notes, *panel.notes))


def _set_aside(checked: Checked, folder: Path) -> Path:
    """Write the bad rows with their reasons, atomically."""
    path = folder / "bad_rows.csv"
    try:
        with replace_atomically(path) as draft:
            quote_formulas(checked.bad_rows).to_csv(draft, index=False)
    except OSError as error:
        raise SourceError(f"{folder}: the quarantine cannot be written ({error.strerror})") from error
    return path
