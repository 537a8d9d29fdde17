"""Load a panel from what `--sales` names: a path, a URL, a saved panel or the simulated market."""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from pricing.config_models import DataConfig
from pricing.data.build import build_panel
from pricing.data.contract import COLUMNS, Checked, check
from pricing.data.findings import Finding, load_findings, quality_file
from pricing.data.own_prices import NO_MOVES, Moves
from pricing.data.panel import Panel, is_panel, load_panel
from pricing.data.quality import judge
from pricing.data.source import read_sales
from pricing.errors import NO_SALES, SIMULATED, ContractError, SourceError
from pricing.fileio import redact_url, replace_atomically
from pricing.paths import pricing_home
from pricing.quoting import quote_formulas


def load_panel_from(sales: str, config: DataConfig, **others: Any) -> Panel:
    """The panel of `load_sales`, which says what may be given and what is raised.

    Example:
        >>> import pandas as pd
        >>> from pricing.config import load_config
        >>> from pricing.data.load import load_panel_from
        >>> sales = pd.DataFrame({"date": pd.date_range("2026-03-02", periods=3), "product_id": "tea", "price": 4.99})
        >>> sales.assign(units_sold=[9, 8, 3], stock=[20, 11, 3]).to_csv("sales.csv", index=False)
        >>> panel = load_panel_from("sales.csv", load_config().data)
        >>> print(panel.units_sold, panel.censored)  # sold out on the last day
        [[9. 8. 3.]] [[False False  True]]
    """
    return load_sales(sales, config, **others).panel


@dataclass(frozen=True)
class LoadedSales:
    """A panel, and what the checks of its sales found."""

    panel: Panel  # the panel
    findings: tuple[Finding, ...] = ()  # what was found, the gravest first


def load_sales(
    sales: str,
    config: DataConfig,
    *,
    quarantine: str | Path | None = None,
    past: Panel | None = None,
    known: Panel | None = None,
    given: Callable[[], Moves] = lambda: NO_MOVES,
    simulated: Callable[[], pd.DataFrame] | None = None,
    **built: Any,
) -> LoadedSales:
    """Read sales, check them against the contract and their own past, and build the panel as `build_panel` does.

    Args:
        sales: What `read_sales` takes, a folder written by `save_panel`, which is returned as it was built, or
            `simulated` for the simulated market.
        config: How the panel is built, and how far sales may lie from their past.
        quarantine: A folder for the rows that break the contract or that a check sets aside; None fails the load on any
            breach of the contract, and rows that a check sets aside go to PRICING_HOME/quarantine.
        past: The end of the history, when the sales hold only newer rows.
        known: The end of the history that the champion has read, to compare with; `past` when absent.
        given: Returns the prices that the platform gave, which are no surprise; called where sales are checked.
        simulated: Returns the simulated market's sales, which the library does not import.
        built: What `build_panel` takes besides: the regular prices in force, `anchors`, and named `events`.

    Raises:
        SourceError: No sales are named, `simulated` is named but not supplied, the sales cannot be read, or the
            quarantine cannot be written.
        ContractError: Rows break the contract and there is no quarantine, or no row satisfies it.
        QualityError: The sales are so far from their past that a job should stop.
    """
    if not sales:
        raise SourceError(NO_SALES)
    if sales == SIMULATED:
        if simulated is None:
            raise SourceError(f"there is no simulated market here: name sales of your own instead of {SIMULATED}")
        panel = build_panel(simulated(), config, **built)
        return LoadedSales(replace(panel, notes=("the sales are those of the simulated market.", *panel.notes)))
    if is_panel(sales):
        return LoadedSales(load_panel(sales), _found_before(sales))

    where = redact_url(sales)
    frame = read_sales(sales, columns=tuple(COLUMNS))
    zone = None if config.time_zone is None else ZoneInfo(config.time_zone)
    checked = check(frame, where=where, period=config.period, zone=zone)
    names = [*map(str, frame.columns), *frame.attrs.get("left_out", ())]
    lineage: Mapping[str, str] = frame.attrs.get("lineage", {})
    del frame
    if checked.violations and (quarantine is None or checked.clean.empty):
        raise ContractError(where, checked.violations)

    today = dt.datetime.now(dt.UTC).date()
    judged = judge(checked, config, names=names, known=known or past, given=given(), where=where, today=today)
    checked = judged.checked
    panel = build_panel(checked.clean, config, past=past, unknown=judged.unknown, **built)

    notes = list(checked.notes)
    if not checked.bad_rows.empty:
        name = Path(sales).name if Path(sales).name.startswith("part=") else ""  # partitions are read side by side
        path = _set_aside(checked, Path(quarantine or pricing_home() / "quarantine" / name))
        broken = [f"{fault.rule}: {fault.count:,} rows, first {fault.first}." for fault in checked.violations]
        notes = [f"{len(checked.bad_rows):,} bad rows are set aside in {path}.", *broken, *notes]
    return LoadedSales(replace(panel, notes=(*notes, *panel.notes), lineage=lineage), judged.findings)


def _found_before(folder: str) -> tuple[Finding, ...]:
    """Read what was found when a panel was saved; nothing where its file is of later sales, which made none."""
    beside = quality_file(folder)
    findings = load_findings(beside) if beside.is_file() else []
    return () if any(found.level == "stop" for found in findings) else tuple(findings)


def _set_aside(checked: Checked, folder: Path) -> Path:
    """Write the bad rows with their reasons, atomically."""
    path = folder / "bad_rows.csv"
    try:
        with replace_atomically(path) as draft:
            quote_formulas(checked.bad_rows).to_csv(draft, index=False)
    except OSError as error:
        raise SourceError(f"{folder}: the quarantine cannot be written ({error.strerror})") from error
    return path
