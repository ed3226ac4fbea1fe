"""What every family asks of the targets it is fitted on, routers and verifiers alike."""

from __future__ import annotations

import numpy as np

from router_models.errors import DataError
from router_models.types import FloatArray


def check_targets(
    y: FloatArray, rows: int, *, classes: int, row_name: str, target_name: str, if_missing: str = ""
) -> FloatArray:
    """Validate the targets of a training set.

    Parameters
    ----------
    y : array of float, (rows,)
        Targets in [0, 1].
    rows : int
        How many examples there are.
    classes : int
        The number of distinct targets that are needed.
    row_name, target_name : str
        What an example and its target are called in messages, in the plural and in the singular.
    if_missing : str
        What to do about targets that are NaN or infinite, added to that message.

    Returns
    -------
    array of float64, (rows,)
        The targets.

    Raises
    ------
    DataError
        For no rows, unequal lengths, targets that are NaN, infinite or outside [0, 1], or too few distinct ones.
    """
    y = np.asarray(y, dtype=np.float64)
    if rows == 0:
        raise DataError(f"no {row_name} to learn from")
    if y.shape != (rows,):
        raise DataError(f"{rows} {row_name} but {target_name}s of shape {y.shape}")
    if not np.isfinite(y).all():
        raise DataError(f"{int((~np.isfinite(y)).sum())} {target_name}s are NaN or infinite{if_missing}")
    if y.min() < 0 or y.max() > 1:
        raise DataError(f"{target_name}s must lie in [0, 1], found {y.min():g} to {y.max():g}")
    if len(np.unique(y)) < classes:
        raise DataError(f"every {target_name} is {y[0]:g}: nothing to learn; more varied {row_name} are needed")
    return y
