"""The one door to sales: a path, an address or a name becomes a panel."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pricing.data.anchors import Anchors
from pricing.data.build import build_panel
from pricing.data.completejourney import completejourney_sales
from pricing.data.contract import COLUMNS, Checked, check
from pricing.data.market import MarketConfig, simulate
from pricing.data.panel import Panel
from pricing.data.source import read_sales, without_secrets
from pricing.data.store import is_panel, load_panel
from pricing.errors import NO_SALES, SIMULATED, ContractError, SourceError
from pricing.sections import DataConfig

DEMO = "completejourney"


def load_panel_from(
    sales: str,
    config: DataConfig,
    *,
    quarantine: str | Path | None = None,
    past: Panel | None = None,
    anchors: Anchors | None = None,
) -> Panel:
    """Reads, checks and builds.

    Args:
        sales: A file, folder or address that `read_sales` takes, a folder that `save_panel` wrote, the word
            completejourney for the weekly grocery sales of that package, or simulated for the simulated market.
        config: How the panel is built. The demo's sales are weekly whatever it says; a saved panel is as it was built.
        quarantine: A folder for the rows that break the contract; None lets one such row fail the load.
        past: What `build_panel` takes it for: the end of the history that the sales go on from, when they hold only
            newer rows.
        anchors: The regular prices in force, for `build_panel`; a saved panel is as it was built.

    Raises:
        SourceError: No sales are named, they cannot be read, or the quarantine cannot be written.
        ContractError: They break the contract and there is no quarantine, or no row keeps it.
    """
    if not sales:
        raise SourceError(NO_SALES)
    if sales == SIMULATED:
        return _noted(
            build_panel(simulate(MarketConfig()).frame(), config, anchors=anchors),
            ["the sales are those of the simulated market."],
        )
    if sales == DEMO:
        frame = completejourney_sales()
        return _noted(
            build_panel(frame, config.model_copy(update={"period": "week"}), anchors=anchors), frame.attrs["notes"]
        )
    if is_panel(sales):
        return load_panel(sales)
    where = without_secrets(sales)
    checked = check(read_sales(sales, columns=tuple(COLUMNS)), where=where, period=config.period)
    notes = checked.notes
    if checked.violations:
        if quarantine is None or checked.clean.empty:
            raise ContractError(where, checked.violations)
        path = _set_aside(checked, Path(quarantine))
        broken = [f"{fault.rule}: {fault.count:,} rows, first {fault.first}." for fault in checked.violations]
        notes = (f"{len(checked.bad_rows):,} bad rows are set aside in {path}.", *broken, *notes)
    return _noted(build_panel(checked.clean, config, past=past, anchors=anchors), notes)


def _noted(panel: Panel, notes: Sequence[str]) -> Panel:
    return replace(panel, notes=(*notes, *panel.notes))


def _set_aside(checked: Checked, folder: Path) -> Path:
    """Writes the bad rows with their reasons, and a count of each rule; whole or not at all."""
    path = folder / "bad_rows.csv"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".draft-", dir=folder) as draft:
            written = Path(draft) / path.name
            checked.bad_rows.to_csv(written, index=False)
            written.replace(path)
    except OSError as error:
        raise SourceError(f"{folder}: the quarantine cannot be written ({error.strerror})") from error
    return path
