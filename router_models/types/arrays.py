"""Names for the arrays and callbacks that signatures use."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Progress = Callable[[str], None]
"""A callback of long operations: it receives one sentence about the step that begins."""
