import json
import math
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from router_models.data.json_values import to_json_values


@dataclass(frozen=True)
class Found:
    low: float
    n: int
    many: np.ndarray


def test_whatever_a_result_holds_becomes_json_that_every_parser_reads() -> None:
    found = {"a": Found(-math.inf, np.int64(3), np.ones(2)), "b": [np.float32(0.5), math.nan, np.bool_(True)]}
    shown = to_json_values(found | {"usd": Decimal("1E-7")})
    assert json.loads(json.dumps(shown, allow_nan=False)) == {
        "a": {"low": None, "n": 3},
        "b": [0.5, None, True],
        "usd": "0.0000001",
    }
