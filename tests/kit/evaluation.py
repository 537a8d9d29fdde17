"""Evaluation frames: forecasts of one fold beside what was sold."""

import numpy as np
import pandas as pd


def fold_frame(
    mean: np.ndarray, actual: np.ndarray, *, cutoff: str | np.datetime64 = "2024-01-01", **columns: object
) -> pd.DataFrame:
    """Forecasts (product, step) and the sales, a day a step; some columns replaced, or more of them."""
    products, steps = mean.shape
    begin, step = np.datetime64(cutoff), np.arange(1, steps + 1)
    plain = {
        "product_id": np.repeat([f"p{i}" for i in range(products)], steps),
        "cutoff": begin,
        "date": np.tile(begin + step, products),
        "step": np.tile(step, products),
        "volume_class": "mid",
        "actual": actual.ravel().astype(float),
        "censored": False,
        "forecast": mean.ravel(),
        "size": 8.0,
        "unit": 1.0,
        "counted": True,
    }
    return pd.DataFrame(plain | columns)
