"""Results as JSON-able data: what `--json` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from decimal import Decimal
from typing import Any

import numpy as np

LEFT_OUT = (np.ndarray,)


def to_json_values(value: Any) -> Any:
    """Dataclasses as objects, money as text, no number (NaN, infinity) as null; arrays are left out.

    An object that has `summary_fields` shows only those.
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
