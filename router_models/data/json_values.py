"""Convert results to JSON values: what `--json` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from decimal import Decimal
from typing import Any

import numpy as np

LEFT_OUT = (np.ndarray,)


def to_json_values(value: Any) -> Any:
    """Convert a result to values that `json.dumps` accepts.

    Parameters
    ----------
    value : object
        Dataclasses become objects (only the fields in `summary_fields`, where a class defines them), amounts of money
        text, NaN and infinity null; arrays are left out.

    Returns
    -------
    dict, list, str, int, float, bool or None
    """
    if isinstance(value, np.generic):
        value = value.item()
    if is_dataclass(value) and not isinstance(value, type):
        names = getattr(value, "summary_fields", tuple(value.__dataclass_fields__))
        fields = {name: getattr(value, name) for name in names}
        return {name: to_json_values(v) for name, v in fields.items() if not isinstance(v, LEFT_OUT)}
    if isinstance(value, Mapping):
        return {str(k): to_json_values(v) for k, v in value.items() if not isinstance(v, LEFT_OUT)}
    if isinstance(value, tuple | list):
        return [to_json_values(v) for v in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return f"{value:f}" if isinstance(value, Decimal) else value
