"""What stands beside a version in its report: baselines that answer as large a share with each tier as it does."""

import re

import numpy as np
import pytest

from router_models.reports.policies import policies_section, shares_section
from router_models.reports.rendering import render
from router_models.risk_control.evidence import CascadeEvidence, Thresholds, replay_policy

NEVER = -np.inf


def evidence(tiers: tuple[str, ...]) -> CascadeEvidence:
    """Ten prompts of growing length; every tier is right on the shortest, the last on all but one."""
    k, rows = len(tiers), np.arange(10)
    right = np.column_stack([rows < 3 * (i + 1) for i in range(k - 1)] + [rows < 9])
    p = np.tile(np.linspace(0.95, 0.05, 10)[:, None], (1, k))
    return CascadeEvidence.of(tiers, p[:, : k - 1], p, [10.0**i for i in range(k)], right, rows)


def figures(page: str, policy: str) -> list[float]:
    """The first number of each cell in a policy's row."""
    row = next(line for line in page.splitlines() if line.startswith(f"| {policy} |"))
    return [float(re.match(r"[-\d.]+", cell.strip())[0]) for cell in row.split("|")[2:-1]]  # type: ignore[index]


@pytest.mark.parametrize("tiers", [("small", "large"), ("small", "medium", "large")], ids=len)
def test_every_tier_alone_and_every_baseline_stands_beside_the_version(tiers: tuple[str, ...]) -> None:
    seen = evidence(tiers)
    k = len(tiers)
    accept = Thresholds((0.5,) + (np.inf,) * (k - 2), (0.7,) * (k - 1), (NEVER,) * k)
    page = policies_section(seen, replay_policy(seen, accept), seed=0)
    for tier in tiers:
        assert f"| always {tier} |" in page
    assert figures(page, f"always {tiers[-1]}") == [100.0, 90.0, 0.0]
    # Three of ten prompts are answered by the small tier, two tries are wasted.
    top = 10.0 ** (k - 1)
    assert figures(page, r"**this version**")[0] == pytest.approx(100 * (5 * 1 + 7 * top) / (10 * top), abs=0.05)
    assert figures(page, "random, same shares")[0] == pytest.approx(100 * (3 * 1 + 7 * top) / (10 * top), abs=0.05)
    assert figures(page, "shortest prompts, same shares")[1:] == [90.0, 0.0], "the shortest are those it is right on"
    assert figures(page, "oracle (knows the grades)")[1] == 90.0


def test_shares_of_the_last_tier_are_met_without_a_verifier() -> None:
    page = shares_section(evidence(("small", "large")))
    assert "| 70% |" in page
    assert figures(page, "70%")[1:] == [73.0, 90.0]


def test_a_value_that_a_template_misses_is_an_error() -> None:
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        render("overload.md.j2", rows="| a |")
