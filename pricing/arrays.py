"""Type aliases of NumPy arrays, for signatures; shapes and units are in the docstrings.

`Floats` is of any precision: features, states and network weights are float32, statistics float64.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]
Strings = NDArray[np.str_]
Days = NDArray[np.datetime64]
