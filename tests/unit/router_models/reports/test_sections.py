"""Sections that every report shares."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from router_models.reports.sections import promise_section, slices_section
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.promise import Streamed
from router_models.risk_control.certificates.risks import ACCEPTED_RISK


def test_slices_of_equal_size_stand_in_the_order_of_their_names() -> None:
    names = ["walnut", "apple", "pear", "fig"] * 5 + ["plum"] * 6
    kept = np.ones(len(names), dtype=np.bool_)
    page = slices_section({"domain": names}, kept, ~kept, None)
    rows = [line.split(" | ")[0].strip("| ") for line in page.splitlines() if line.startswith("| ")]
    assert rows == ["domain", "plum", "apple", "fig", "pear", "walnut"]


def test_a_promise_of_streamed_labels_says_which_figures_they_are_not() -> None:
    made = datetime(2026, 1, 5, tzinfo=UTC)
    plain = Certificate(
        what=ACCEPTED_RISK, epsilon=0.1, delta=0.1, level=0.06, n=80, accepted_n=61, errors=1, upper=0.07,
        threshold=0.8, label_source="human", made_at=made, expires_at=made.replace(year=2027), binds={},
    )  # fmt: skip
    streamed = replace(plain, streamed=Streamed(80, 61, 17.2, 2, 3, 2, 0.81))
    text = promise_section(streamed)
    assert "human labels, streamed: 80 rows labelled, stopped at 61, 2 labellers, kappa 0.81" in text
    assert "grade the CERT prompts by the outcomes' own labels" in text
    assert "by the outcomes' own labels" not in promise_section(plain)
    assert Certificate.from_json(streamed.to_json()) == streamed
