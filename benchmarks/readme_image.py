"""Draw the README's picture: what a price of the sample's product would sell and earn, and the price that is chosen.

python -m benchmarks.readme_image FOLDER    of a packed version that was trained on docs/sample_sales.csv
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from pricing.decision.request import PriceRequest
from pricing.decision.simulation import Outcome, Simulation
from pricing.registry.version import load

mpl.rcParams["svg.fonttype"] = "none"  # text stays text
mpl.rcParams["svg.hashsalt"] = "pricing"  # the same picture, the same file
IMAGE = Path(__file__).parents[1] / "docs" / "images" / "price.svg"
REQUEST = PriceRequest(product_id="P00002", current_stock=150, day_of_week="Friday", comp_price=10.60, is_promo=False)
BLUE, GREEN, GREY = "#0072b2", "#009e73", "#777777"
TITLES = {"units": "units sold", "margin": "profit"}
POINTS = 25


def main() -> None:
    """Reads the version and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("version", type=Path)
    version = load(parser.parse_args().version)
    pricer, today = version.pricer(version="1"), version.demand.state_date
    chosen = pricer.simulate(REQUEST, today=today, strategies=["margin"])
    low, high = (limit * share for limit, share in zip(chosen.price_limits, (0.88, 1.12), strict=True))
    prices = np.round(np.geomspace(low, high, POINTS), 2).tolist()
    tried = pricer.simulate(REQUEST, today=today, prices=prices)
    figure = draw(tried, chosen.outcomes[0])
    figure.savefig(IMAGE, metadata={"Date": None})


def draw(tried: Simulation, chosen: Outcome) -> Figure:
    """Units and profit until the next delivery over the price; the guardrails' interval is shaded."""
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    price = np.array([outcome.price for outcome in tried.outcomes])
    for ax, (name, colour) in zip(figure.subplots(1, 2), (("units", BLUE), ("margin", GREEN)), strict=True):
        estimates = [getattr(outcome, name) for outcome in tried.outcomes]
        ends = [np.array([getattr(estimate, end) for estimate in estimates]) for end in ("low", "high")]
        ax.axvspan(*tried.price_limits, color=GREY, alpha=0.10, linewidth=0)
        ax.fill_between(price, *ends, color=colour, alpha=0.18, linewidth=0)
        ax.plot(price, [estimate.mean for estimate in estimates], color=colour)
        ax.axvline(tried.current_price or tried.list_price, color=GREY, linestyle="--", linewidth=1)
        ax.plot(chosen.price, getattr(chosen, name).mean, "o", color=colour)
        ax.set_xlabel("price")
        ax.set_title(f"{TITLES[name]} until the next delivery", loc="left", fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
