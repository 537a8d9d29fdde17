"""Convert a panel back to the rows that it was built from."""

import numpy as np
import pandas as pd

from pricing.data.panel import Panel


def panel_frame(panel: Panel) -> pd.DataFrame:
    """The panel as contract rows again, ordered by product and date; periods without a row are left out."""
    row, column = np.nonzero(panel.present)
    frame = pd.DataFrame(
        {
            "date": panel.dates[column].astype("datetime64[s]"),
            "product_id": panel.product_ids[row],
            "category": panel.categories[row],
        }
    )
    for name in ("units_sold", "price", "list_price", "unit_cost", "stock", "comp_price", "is_promo", "is_holiday"):
        frame[name] = getattr(panel, name)[row, column]
    return frame
