"""Write a training run's artifacts: plots, the sensitivity analysis, explanations. One that fails is left out."""

import base64
import tempfile
from pathlib import Path

import mlflow
import pandas as pd

from pipelines.reports.page import dispensable
from pipelines.reports.plots import FORECAST_PLOTS, draw_by_category, png, shap_plots
from pipelines.reports.sensitivity import analyse, sensitivity_page
from pricing.registry.version import LoadedVersion


def log_artifacts(frame: pd.DataFrame, version: LoadedVersion, *, largest_jump: float | None) -> None:
    """Logs `plots/` and `sensitivity/` to the active run; takes seconds, plus half a second per 1,000 products.

    Args:
        frame: The evaluation frame of a `Backtest`.
        version: The fitted version.
        largest_jump: As of `sensitivity.analyse`.
    """
    with tempfile.TemporaryDirectory(prefix="pricing-") as scratch:
        write_artifacts(Path(scratch), frame, version=version, largest_jump=largest_jump)
        mlflow.log_artifacts(scratch)


def write_artifacts(
    folder: Path, frame: pd.DataFrame, *, version: LoadedVersion, largest_jump: float | None = None
) -> None:
    """Writes the artifacts of `log_artifacts` to a folder, but for those that cannot be made."""
    plots, tables = folder / "plots", folder / "sensitivity"
    plots.mkdir(parents=True)
    tables.mkdir()
    for name, draw in FORECAST_PLOTS.items():
        with dispensable(f"plots/{name}.png"):
            (plots / f"{name}.png").write_bytes(png(draw(frame)))
    with dispensable("sensitivity/"):
        found = analyse(version, largest_jump=largest_jump)
        image = png(draw_by_category(found))
        (plots / "elasticity_by_category.png").write_bytes(image)
        for name in ("summary", "products"):
            getattr(found, name).to_parquet(tables / f"{name}.parquet", index=False)
        title = f"How demand answers to price, as of {version.demand.state_date}"
        drawn = {"elasticity by category": base64.b64encode(image).decode()}
        (tables / "sensitivity.html").write_text(sensitivity_page(found, drawn, title=title), encoding="utf-8")
    with dispensable("plots/shap_*.png"):
        for name, image in shap_plots(version):
            (plots / f"{name}.png").write_bytes(image)
