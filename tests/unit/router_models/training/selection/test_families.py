"""What decides which families a tier gets."""

import numpy as np
import pandas as pd

from router_models.data.formats import parse_columns
from router_models.data.outcomes import table_of
from router_models.training.selection.families import domain_labels


def labels(*domains: str | None) -> np.ndarray | None:
    prompts = [f"question {i}" for i in range(len(domains))]
    columns = {"prompt": prompts, "domain": list(domains), "cheap": [1.0] * len(domains)}
    return domain_labels(table_of(parse_columns(pd.DataFrame(columns), ("cheap",))))


def test_prompts_without_a_domain_have_no_number_and_one_domain_alone_is_none() -> None:
    found = labels("art", "law", "physics", None)
    assert found is not None
    assert found.tolist() == [0, 1, 2, -1]
    assert labels("art", None, None) is None
