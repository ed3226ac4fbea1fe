"""What one pays and gets: a version beside each tier alone and beside what needs no model."""

from __future__ import annotations

import numpy as np

from router_models.reports.markdown import table
from router_models.reports.sections import REPORT_DRAWS, mean_interval, with_interval
from router_models.risk_control.certificates.promise import Compared
from router_models.risk_control.evidence import CascadeEvidence, replay_policy
from router_models.risk_control.ladder.replay import Replay
from router_models.training.evidence import one_pair, route_at_for_share
from router_models.types import FloatArray, IntArray

SHARES_SHOWN = (0.1, 0.3, 0.5, 0.7, 0.9)


def policies_section(seen: CascadeEvidence, replayed: Replay, seed: int, compared: Compared | None = None) -> str:
    """A table of cost and quality with paired bootstrap intervals over the prompts.

    The version's cost and its difference in right answers are `compared`'s where it is given: net of overhead.

    Random and prompt length answer with each cheaper tier as often as the version does; the last tier answers what is
    left. The oracle asks the cheapest tier that is right.
    """
    grades, n, top = seen.grades, len(seen), len(seen.tiers) - 1
    shares = np.array([(replayed.answered_by == i).mean() for i in range(top)])
    mixture = np.append(shares, 1 - shares.sum())
    cheapest_right = np.where(seen.grades.any(axis=1), seen.grades.argmax(axis=1), top)
    rivals: dict[str, tuple[FloatArray, FloatArray]] = {
        "**this version**": (replayed.cost_usd, replayed.right(grades >= 0.5).astype(np.float64)),
        **{f"always {tier}": (seen.cost_usd[:, i], grades[:, i]) for i, tier in enumerate(seen.tiers)},
        "random, same shares": (seen.cost_usd @ mixture, grades @ mixture),
        "shortest prompts, same shares": _answered_by(seen, _by_length(seen.prompt_lengths, shares)),
        "oracle (knows the grades)": _answered_by(seen, cheapest_right),
    }
    draws = np.random.default_rng(seed).integers(0, n, (REPORT_DRAWS, n))
    best, cost = grades[:, top], seen.cost_usd[:, top].mean()
    last = seen.tiers[top]
    rows = [["policy", f"cost, % of always {last}", "right, %", f"right − always {last}, points"]]
    for name, (paid, good) in rivals.items():
        figures = (100 * paid / cost, 100 * good, 100 * (good - best))
        rows.append([name, *(with_interval(mean_interval(values, draws)) for values in figures)])
    if compared is not None:
        (saved, least, most), moved = compared.cost_saved, compared.right_difference
        rows[1][1] = with_interval((100 * (1 - saved), 100 * (1 - most), 100 * (1 - least)))
        rows[1][3] = with_interval((100 * moved[0], 100 * moved[1], 100 * moved[2]))
    return table(rows)


def shares_section(seen: CascadeEvidence) -> str:
    """Of two tiers: the routing thresholds that send given shares to the last one, without a verifier."""
    rows = [
        ["share to " + seen.tiers[-1], f"try {seen.tiers[0]} at ≥", f"cost, % of always {seen.tiers[-1]}", "right, %"]
    ]
    for share in SHARES_SHOWN:
        at = route_at_for_share(seen.p_route[:, 0], share)
        replayed = replay_policy(seen, one_pair(at, -np.inf))
        cost = 100 * replayed.cost_usd.mean() / seen.cost_usd[:, -1].mean()
        right = 100 * replayed.right(seen.grades >= 0.5).mean()
        rows.append([f"{share:.0%}", f"{at:.4f}", f"{cost:.1f}", f"{right:.1f}"])
    return table(rows)


def _answered_by(seen: CascadeEvidence, tier: IntArray) -> tuple[FloatArray, FloatArray]:
    """Cost and grade of every prompt where one tier each answers at once, (n,) and (n,)."""
    rows = np.arange(len(seen))
    return seen.cost_usd[rows, tier], seen.grades[rows, tier]


def _by_length(lengths: FloatArray, shares: FloatArray) -> IntArray:
    """The tier of every prompt, (n,): the shortest go to the first tier as its share says, and so on."""
    n = len(lengths)
    ends = [round(float(share) * n) for share in np.cumsum(shares)]
    tier = np.empty(n, dtype=np.int64)
    tier[np.argsort(lengths, kind="stable")] = np.searchsorted(ends, np.arange(n), side="right")
    return tier
