"""Types of arrays that rooms share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
UInt8Array = NDArray[np.uint8]
