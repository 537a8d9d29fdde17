"""Write a training run's artifacts: plots, the sensitivity analysis, explanations. One that fails is left out."""

import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import mlflow
import pandas as pd
from matplotlib.figure import Figure

from pipelines.reports import dispensable
from pipelines.reports.forecast_plots import FORECAST_PLOTS
from pipelines.reports.price_plots import PRICE_PLOTS
from pipelines.reports.sensitivity import analyse, sensitivity_page
from pipelines.reports.shap_plots import shap_plots
from pricing.registry.version import LoadedVersion


def log_artifacts(frame: pd.DataFrame, version: LoadedVersion) -> None:
    """Logs `plots/` and `sensitivity/` to the active run; takes seconds, plus half a second per 1,000 products.

    Args:
        frame: The evaluation frame, from `evaluation.described`.
        version: The fitted version.
    """
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        write_artifacts(Path(scratch), frame, version=version)
        mlflow.log_artifacts(scratch)


def write_artifacts(
    folder: Path,
    frame: pd.DataFrame,
    *,
    version: LoadedVersion,
    forecast_plots: Mapping[str, Callable[[pd.DataFrame], Figure]] = FORECAST_PLOTS,
) -> None:
    """Writes the artifacts of `log_artifacts` to a folder, but for those that cannot be made."""
    plots, tables = folder / "plots", folder / "sensitivity"
    plots.mkdir(parents=True)
    tables.mkdir()
    for name, draw in forecast_plots.items():
        with dispensable(f"plots/{name}.png"):
            (plots / f"{name}.png").write_bytes(_png(draw(frame)))
    with dispensable("sensitivity/"):
        found, curves = analyse(version), {}
        for name, draw_prices in PRICE_PLOTS.items():
            with dispensable(f"plots/{name}.png"):
                curves[name] = _png(draw_prices(found))
                (plots / f"{name}.png").write_bytes(curves[name])
        for name in ("summary", "products"):
            getattr(found, name).to_parquet(tables / f"{name}.parquet", index=False)
        title = f"How demand answers to price, as of {version.demand.state_date}"
        (tables / "sensitivity.html").write_text(sensitivity_page(found, curves, title=title), encoding="utf-8")
    with dispensable("plots/shap_*.png"):
        for name, image in shap_plots(version):
            (plots / f"{name}.png").write_bytes(image)


def _png(figure: Figure) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()
