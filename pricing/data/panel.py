"""The panel: validated sales as dense arrays, products × periods, the input of all later stages."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pricing.arrays import Bools, Days, Floats, Strings, flatten, restore
from pricing.data.net_price import highest_rates
from pricing.errors import SourceError

CONTRACT_VERSION = 1  # of the columns and their meaning; a model version of another contract is refused

Period = Literal["day", "week"]

LONGEST_AGE = 3660.0
"""The largest age of a competitor's price, in days: ten years, beyond which a date was meant."""

STEP_DAYS = {"day": 1, "week": 7}
SERIES = (
    "present",
    "units_sold",
    "price",
    "list_price",
    "unit_cost",
    "stock",
    "available",
    "comp_price",
    "comp_price_age",
    "tax_rate",
    "is_promo",
    "is_holiday",
)
STATICS = ("product_ids", "categories", "cost_assumed")
FORMAT = 5  # of saved panels: no other is read
HEADER = "panel.json"


@dataclass(frozen=True)
class Event:
    """One occurrence of a named event known in advance, such as a holiday or a campaign."""

    name: str  # the same for every occurrence
    first: np.datetime64  # its first day
    last: np.datetime64  # its last day
    category: str = ""  # the only category it concerns; empty for all
    before: int = 0  # periods before it that it may affect too
    after: int = 0  # periods after it
    # Whether it adds to other events instead of yielding to nearer ones, as events that last for weeks or concern one
    # category do:
    overlay: bool = False


@dataclass(frozen=True)
class Panel:
    """Sales of every product on every period between the first and the last date.

    Arrays are (product, period) unless said otherwise; products are sorted by id, periods by date.
    """

    period: Period  # the grain, "day" or "week"
    product_ids: Strings  # (product,) sorted, unique
    categories: Strings  # (product,) the latest category of each product
    dates: Days  # (period,) datetime64[D], evenly spaced by 1 or 7 days, no gaps
    present: Bools  # true where the history has a row
    units_sold: Floats  # net units; NaN where there is no row
    # Unit price charged, tax included; between a product's first row and the end carried forward over gaps; NaN before:
    price: Floats
    list_price: Floats  # regular price, given or derived; NaN before the first row
    # Given, without tax, or net list price × (1 − configured margin) where `cost_assumed`; NaN before the first row:
    unit_cost: Floats
    stock: Floats  # units on hand at opening; NaN where unknown, and where more sold: a delivery came that day
    available: Floats  # share of the period in which the product could be bought, 0 to 1; NaN where unknown
    comp_price: Floats  # competitor's price; NaN where unknown
    comp_price_age: Floats  # days since it was seen; NaN where there is none
    # Tax that `price` includes, a fraction of the net price; 0 before any product has one, then NaN where this one has
    # none yet (`tax_rates` has what stands in for it):
    tax_rate: Floats
    is_promo: Floats  # 1.0 where the offer is advertised, else 0.0
    is_holiday: Floats  # 1.0 on holidays, else 0.0
    cost_assumed: Bools  # (product,) True where no cost was given
    notes: tuple[str, ...] = ()  # what was derived, filled or counted on the way, one sentence each
    # True when the history itself says which periods are holidays, so that their recurrence can be learnt from it;
    # False when a calendar said so:
    holidays_given: bool = False
    # Named events of its periods and of those to come; those of one day in order of precedence:
    events: tuple[Event, ...] = ()
    # What its rows were made from, such as the state of `etl`; empty where they were given as one table:
    lineage: Mapping[str, str] = field(default_factory=dict)
    # (product,) the product of which each is the series of a store or channel, its own id where it is none; series of
    # one parent share their elasticity. None where no product has a parent:
    parent_ids: Strings | None = None
    # Product → its newest name, of those that have one; people read it, and no demand does:
    names: Mapping[str, str] = field(default_factory=dict)
    # Products that sold nothing up to the end in a run of zeros too long for chance (`data.zero_run`), whose stock is
    # unknown: nobody knows that they are still sold:
    silent: tuple[str, ...] = ()

    @property
    def bounded(self) -> Bools:
        """(product, period) True where units sold are a lower bound of demand, and how far below it is unknown.

        Sales met the opening stock, and nobody says how long it lasted; or the product could not be bought at all.
        """
        return self.present & np.where(np.isnan(self.available), self.units_sold >= self.stock, self.available == 0)

    @property
    def censored(self) -> Bools:
        """(product, period) True where demand may have been higher than sales: `bounded`, or available in part only."""
        return self.bounded | (self.present & (self.available < 1))

    @property
    def shelf(self) -> Floats:
        """(product, period) units that the opening shelf could give, infinite where unknown.

        It is 0, as where nothing could be sold, in periods that the product was available for in part only.
        """
        stock = np.nan_to_num(self.stock.astype(np.float64), nan=np.inf)
        return np.select([self.available < 1, self.available == 1], [0.0, np.inf], stock)

    def tax_rates(self) -> Floats:
        """(product, period) `tax_rate`, and the highest of its category in place of an unknown one."""
        unknown = np.isnan(self.tax_rate)
        if not unknown.any():
            return self.tax_rate
        category = np.unique(self.categories, return_inverse=True)[1]
        return np.where(unknown, highest_rates(self.tax_rate, category[:, None]), self.tax_rate)

    def through(self, cutoff: np.datetime64) -> "Panel":
        """Return the periods that begin on `cutoff` or earlier; views, no copies.

        Every product keeps its row, even one not launched by then (`present` is all False there).
        """
        periods = int((self.dates <= cutoff).sum())
        earlier = {name: getattr(self, name)[:, :periods] for name in SERIES}
        return replace(self, dates=self.dates[:periods], silent=(), **earlier)

    def select(self, rows: NDArray[np.integer] | Bools) -> "Panel":
        """Return the panel of some products, given by ascending row numbers or a mask."""
        parents = None if self.parent_ids is None else self.parent_ids[rows]
        return replace(self, **{name: getattr(self, name)[rows] for name in (*STATICS, *SERIES)}, parent_ids=parents)


def save_panel(panel: Panel, folder: str | Path) -> None:
    """Write the panel to a draft folder and rename it into place; a panel that is saved there is replaced.

    Raises:
        SourceError: The folder exists and holds no panel, or cannot be written.

    Example:
        >>> import pandas as pd
        >>> from pricing.config import load_config
        >>> from pricing.data.build import build_panel
        >>> from pricing.data.panel import load_panel, save_panel
        >>> days = pd.date_range("2026-03-02", periods=3)
        >>> sales = pd.DataFrame({"date": days, "product_id": "tea", "units_sold": [12, 9, 8], "price": 4.99})
        >>> save_panel(build_panel(sales, load_config().data), "panel")
        >>> print(load_panel("panel").units_sold)
        [[12.  9.  8.]]
    """
    place = Path(folder)
    if place.exists() and not is_panel(place) and not (place.is_dir() and not any(place.iterdir())):
        raise SourceError(f"{place}: holds something that is no panel; give another folder")
    arrays, header = flatten(panel)
    header |= {"format": FORMAT, "contract": CONTRACT_VERSION}
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as drafts:
            draft = Path(drafts) / "new"
            draft.mkdir()
            for name, values in arrays.items():
                np.save(draft / f"{name}.npy", values, allow_pickle=False)
            (draft / HEADER).write_text(json.dumps(header, indent=1), encoding="utf-8")
            if place.exists():
                place.replace(Path(drafts) / "old")
            draft.replace(place)
    except OSError as error:
        raise SourceError(f"{place}: cannot be written ({error.strerror})") from error


def is_panel(folder: str | Path) -> bool:
    """Returns whether the folder holds a saved panel's header."""
    return (Path(folder) / HEADER).is_file()


def load_panel(folder: str | Path) -> Panel:
    """Read a saved panel; its arrays are memory-mapped and read-only.

    Raises:
        SourceError: The folder holds no panel, a damaged one, or another format.
    """
    place = Path(folder)
    try:
        header = json.loads((place / HEADER).read_text(encoding="utf-8"))
        for what, known in (("format", FORMAT), ("contract", CONTRACT_VERSION)):
            if header[what] != known:
                raise SourceError(f"{place}: is a panel of {what} {header[what]}, expected {known}; run etl again")
        arrays = {path.stem: np.asarray(np.load(path, mmap_mode="r")) for path in place.glob("*.npy")}
        panel = restore(Panel, arrays, header)
        shape = (len(panel.product_ids), len(panel.dates))
        if wrong := [name for name in SERIES if arrays[name].shape != shape]:
            raise SourceError(f"{place}: is damaged: {wrong[0]} has shape {arrays[wrong[0]].shape}, expected {shape}")
        return panel
    except FileNotFoundError as error:
        raise SourceError(f"{place}: is no saved panel ({error.filename} is missing); run etl to make one") from error
    except (OSError, EOFError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise SourceError(f"{place}: is a damaged panel ({error}); run etl again") from error
