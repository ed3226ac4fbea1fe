"""Sections that every report shares."""

import numpy as np

from router_models.reports.sections import slices_section


def test_slices_of_equal_size_stand_in_the_order_of_their_names() -> None:
    names = ["walnut", "apple", "pear", "fig"] * 5 + ["plum"] * 6
    kept = np.ones(len(names), dtype=np.bool_)
    page = slices_section({"domain": names}, kept, ~kept, None)
    rows = [line.split(" | ")[0].strip("| ") for line in page.splitlines() if line.startswith("| ")]
    assert rows == ["domain", "plum", "apple", "fig", "pear", "walnut"]
