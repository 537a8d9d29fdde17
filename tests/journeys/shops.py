"""Sales of shops that the platform has never seen, each with only the columns that its story needs."""

from pathlib import Path

import numpy as np
import pandas as pd

FIRST = np.datetime64("2024-01-01", "D")  # a Monday


def sales(*, products: int, periods: int, seed: int, weekly: bool = False, moves: bool = True) -> pd.DataFrame:
    """Returns sales with the four needed columns, one row per product and day, or per product and week.

    Demand is Poisson around a level of the product's own, with weekdays, and a constant elasticity of −1.5 to −3.5. A
    person moves each price every two to six weeks by 5 to 15 % around its usual level, without a look at demand.

    Args:
        products: Number of products.
        periods: Number of days, or weeks.
        seed: Of every draw.
        weekly: Whether a period is a week.
        moves: Whether prices ever move.
    """
    rng = np.random.default_rng(seed)
    step = 7 if weekly else 1
    dates = FIRST + step * np.arange(periods)
    weekday = np.ones(periods) if weekly else np.array([0.9, 0.9, 0.95, 1.0, 1.15, 1.2, 0.9])[np.arange(periods) % 7]
    frames = []
    for number in range(products):
        usual = round(float(np.exp(rng.uniform(1.5, 4.5))), 2)
        price = np.full(periods, usual)
        start = 0
        while moves and start < periods:
            length = max(int(rng.integers(14, 43)) // step, 2)
            price[start : start + length] = round(usual * float(rng.choice([1, 1, 0.95, 0.9, 0.85, 1.05, 1.1])), 2)
            start += length
        level = step * float(np.exp(rng.uniform(1.5, 3.5)))
        expected = level * weekday * (price / usual) ** rng.uniform(-3.5, -1.5)
        frames.append(
            pd.DataFrame(
                {
                    "date": dates,
                    "product_id": f"A{number:03d}",
                    "units_sold": rng.poisson(expected),
                    "price": price,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def write(frame: pd.DataFrame, path: Path) -> Path:
    """Writes sales as the CSV file that a shop would export."""
    frame.to_csv(path, index=False)
    return path
