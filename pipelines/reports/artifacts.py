"""Write a training run's artifacts: plots, the sensitivity analysis, SHAP explanations."""

import io
import tempfile
from pathlib import Path

import mlflow
import pandas as pd
from matplotlib.figure import Figure

from pipelines.reports.forecast_plots import forecast_plots
from pipelines.reports.price_plots import price_plots
from pipelines.reports.sensitivity import analyse, sensitivity_page
from pipelines.reports.shap_plots import shap_plots
from pricing.data.panel import Panel
from pricing.registry.version import LoadedVersion


def log_artifacts(frame: pd.DataFrame, version: LoadedVersion, panel: Panel) -> None:
    """Logs `plots/` and `sensitivity/` to the active run; takes seconds, plus half a second per 1,000 products.

    Args:
        frame: The evaluation frame, from `evaluation.described`.
        version: The fitted version.
        panel: The history it was trained on.
    """
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        write_artifacts(Path(scratch), frame, version=version, panel=panel)
        mlflow.log_artifacts(scratch)


def write_artifacts(folder: Path, frame: pd.DataFrame, *, version: LoadedVersion, panel: Panel) -> None:
    """Writes the artifacts of `log_artifacts` to a folder."""
    plots, tables = folder / "plots", folder / "sensitivity"
    plots.mkdir(parents=True)
    tables.mkdir()
    found = analyse(version, panel)
    curves = {name: _png(figure) for name, figure in price_plots(found)}
    drawn = {**{name: _png(figure) for name, figure in forecast_plots(frame)}, **curves, **dict(shap_plots(version))}
    for name, image in drawn.items():
        (plots / f"{name}.png").write_bytes(image)
    for name in ("summary", "products", "categories"):
        getattr(found, name).to_parquet(tables / f"{name}.parquet", index=False)
    title = f"How demand answers to price, as of {version.demand.state_date}"
    (tables / "sensitivity.html").write_text(sensitivity_page(found, curves, title=title), encoding="utf-8")


def _png(figure: Figure) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()
