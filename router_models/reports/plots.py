"""The report's pictures, drawn without a display. matplotlib is imported when a picture is drawn, not before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from router_models.reports.sections import estimates_of
from router_models.risk_control.evidence import CascadeEvidence, Thresholds, replay_policy
from router_models.risk_control.ladder.replay import Replay
from router_models.types import FloatArray

BINS = 10
DEFERRAL_FILE = "deferral.json"
"""The deferral curves' numbers, beside the picture."""
_STEPS = 50
"""Steps of share that the numbers are given at."""


def draw_reliability(path: Path, seen: CascadeEvidence) -> None:
    """Estimated against observed share right, in bins of equal counts with 90 % Wilson intervals; one panel each."""
    panels = estimates_of(seen)
    figure, axes = _figure(1, len(panels), (4 * len(panels), 3.8))
    for axis, (title, p, right) in zip(axes, panels, strict=True):
        axis.plot([0, 1], [0, 1], color="0.7", lw=1)
        bins = np.array_split(np.argsort(p, kind="stable"), BINS)
        mid = np.array([right[rows].mean() for rows in bins])
        spans = np.array([wilson(float(right[rows].sum()), len(rows)) for rows in bins]).T
        at = [p[rows].mean() for rows in bins]
        axis.errorbar(at, mid, [mid - spans[0], spans[1] - mid], fmt="o", color="C0", ms=4)
        axis.set(xlabel="estimated", ylabel="observed", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title=title)
    _save(figure, path)


def draw_acceptance(path: Path, seen: CascadeEvidence, thresholds: Thresholds) -> None:
    """Share right among answers at least this confident, and the share of traffic they are; the threshold drawn in.

    One panel for every tier below the last, of the prompts that are routed to it.
    """
    lower = seen.tiers[:-1]
    tried, grades = replay_policy(seen, thresholds).tried, seen.grades
    figure, axes = _figure(1, len(lower), (6.5 * len(lower), 4))
    for i, (tier, axis) in enumerate(zip(lower, axes, strict=True)):
        routed, accept_at = tried == i, thresholds.accept_at[i]
        p, right = seen.p_ok[routed, i], grades[routed, i]
        order = np.argsort(-p, kind="stable")
        accuracy = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
        axis.plot(p[order], accuracy, label="right among accepted")
        axis.plot(p[order], np.arange(1, len(order) + 1) / len(seen), label="accepted share of all prompts", ls="--")
        if np.isfinite(accept_at):
            axis.axvline(accept_at, color="C3", lw=1, label=f"threshold {accept_at:.3f}")
        axis.set(xlabel="verifier's estimate", ylim=(0, 1.02), title=f"answers of {tier}, most confident first")
        axis.legend(loc="lower left", fontsize=8)
    _save(figure, path)


def draw_deferral(path: Path, seen: CascadeEvidence, replayed: Replay) -> dict[str, float]:
    """Quality by share answered by the last tier instead of the first, for each ranking.

    Returns the areas under the curves by ranking. The operating point is drawn in where there are two tiers.
    """
    figure, (axis,) = _figure(1, 1, (6.5, 4.5))
    areas: dict[str, float] = {}
    for name, (share, quality) in _deferral_curves(seen).items():
        areas[name] = float(np.trapezoid(quality, share))
        axis.plot(share, quality, label=f"{name} ({areas[name]:.3f})")
    ends = [seen.grades[:, 0].mean(), seen.grades[:, -1].mean()]
    areas["random"] = float(np.mean(ends))
    axis.plot([0, 1], ends, color="0.6", ls=":", label=f"random ({areas['random']:.3f})")
    if len(seen.tiers) == 2:
        right = replayed.right(seen.grades >= 0.5)
        axis.plot(1 - replayed.accepted.mean(), right.mean(), "k*", ms=12, label="operating point")
    axis.set(xlabel=f"share answered by {seen.tiers[-1]} instead of {seen.tiers[0]}", ylabel="share right")
    axis.legend(loc="lower right", fontsize=8)
    _save(figure, path)
    return areas


def write_deferral(path: Path, seen: CascadeEvidence, replayed: Replay) -> None:
    """Write the numbers of `draw_deferral` as JSON: each curve in steps of share, and the operating point.

    `point` is null where there are more than two tiers; its `low` and `high` are a 90 % Wilson interval.
    """
    steps = np.linspace(0, 1, _STEPS + 1)
    curves = _deferral_curves(seen)
    curves["random"] = np.array([0.0, 1.0]), np.array([seen.grades[:, 0].mean(), seen.grades[:, -1].mean()])
    point = None
    if len(seen.tiers) == 2:
        right = replayed.right(seen.grades >= 0.5)
        low, high = wilson(float(right.sum()), len(right))
        point = {"share": float(1 - replayed.accepted.mean()), "right": float(right.mean()), "low": low, "high": high}
    made = {
        "tiers": list(seen.tiers),
        "n": len(seen),
        "curves": [
            {
                "name": name,
                "area": float(np.trapezoid(quality, share)),
                "points": [
                    [round(float(x), 4), round(float(y), 6)]
                    for x, y in zip(steps, np.interp(steps, share, quality), strict=True)
                ],
            }
            for name, (share, quality) in curves.items()
        ],
        "point": point,
    }
    path.write_text(json.dumps(made) + "\n", encoding="utf-8")


def _deferral_curves(seen: CascadeEvidence) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Share and quality, for each way of ranking prompts."""
    first, last = seen.grades[:, 0], seen.grades[:, -1]
    rankings = {
        "verifier": seen.p_ok[:, 0],
        "router": seen.p_route[:, 0],
        "length": -seen.prompt_lengths,
        "oracle": first - last + 1e-3 * first,
    }
    return {name: deferral_curve(score, first, last) for name, score in rankings.items()}


def deferral_curve(score: FloatArray, first: FloatArray, last: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(share sent to the last tier, share right), sending the lowest scores first; tied scores move together.

    `first` and `last` (n,) are the two tiers' grades.
    """
    values, inverse = np.unique(score, return_inverse=True)
    gain = np.bincount(inverse, weights=last - first, minlength=len(values))
    count = np.bincount(inverse, minlength=len(values))
    share = np.concatenate([[0.0], np.cumsum(count)]) / len(score)
    quality = first.mean() + np.concatenate([[0.0], np.cumsum(gain)]) / len(score)
    return share, quality


def wilson(k: float, n: int, z: float = 1.645) -> tuple[float, float]:
    """Wilson's interval for k successes in n trials, inside [0, 1]."""
    p, d = k / n, 1 + z * z / n
    middle, half = (p + z * z / (2 * n)) / d, z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / d
    return max(0.0, min(middle - half, p)), min(1.0, max(middle + half, p))


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, np.atleast_1d(figure.subplots(rows, columns)).ravel()


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110)
