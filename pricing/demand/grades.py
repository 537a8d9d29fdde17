"""How well each product's elasticity is identified: from a prior alone to prices drawn at random."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Grades = NDArray[np.int8]

GRADES = ("prior_only", "category", "own_history", "tested")
PRIOR_ONLY, CATEGORY, OWN_HISTORY, TESTED = range(4)
IDENTIFIED = 0.5  # share of the prior variance that the data must have removed


def grade_by_variance(sd: Floats, *, prior_sd: float) -> Grades:
    """(n,) own history where the data removed at least half of the prior variance, else prior only."""
    return np.where(sd**2 <= (1 - IDENTIFIED) * prior_sd**2, OWN_HISTORY, PRIOR_ONLY).astype(np.int8)
