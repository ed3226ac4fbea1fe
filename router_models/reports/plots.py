"""The report's pictures, drawn without a display. matplotlib is imported when a picture is drawn, not before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from router_models.training.evidence import Evidence, Replay
from router_models.types import FloatArray

BINS = 10


def draw_reliability(path: Path, seen: Evidence, tiers: tuple[str, str]) -> None:
    """Estimated against observed share right, in bins of equal counts with 90 % Wilson intervals."""
    figure, axes = _figure(1, 3, (12, 3.8))
    panels = (
        (f"router: {tiers[0]} will be right", seen.p_route_ok, seen.cheap_right),
        (f"verifier: {tiers[0]} is right", seen.p_cheap_ok, seen.cheap_right),
        (f"verifier: {tiers[1]} is right", seen.p_frontier_ok, seen.frontier_right),
    )
    for axis, (title, p, right) in zip(axes, panels, strict=True):
        axis.plot([0, 1], [0, 1], color="0.7", lw=1)
        for rows in np.array_split(np.argsort(p, kind="stable"), BINS):
            low, high = wilson(float(right[rows].sum()), len(rows))
            mid = float(right[rows].mean())
            axis.errorbar(p[rows].mean(), mid, [[mid - low], [high - mid]], fmt="o", color="C0", ms=4)
        axis.set(xlabel="estimated", ylabel="observed", xlim=(0, 1), ylim=(0, 1), title=title)
    _save(figure, path)


def draw_acceptance(path: Path, seen: Evidence, accept_at: float, route_at: float) -> None:
    """Share right among answers at least this confident, and the share of traffic they are; the threshold drawn in."""
    figure, (axis,) = _figure(1, 1, (6.5, 4))
    routed = seen.p_route_ok >= route_at
    p, right = seen.p_cheap_ok[routed], seen.cheap_right[routed]
    order = np.argsort(-p, kind="stable")
    accuracy = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    axis.plot(p[order], accuracy, label="right among accepted")
    axis.plot(p[order], np.arange(1, len(order) + 1) / len(seen), label="accepted share of all prompts", ls="--")
    axis.axvline(accept_at, color="C3", lw=1, label=f"threshold {accept_at:.3f}")
    axis.set(xlabel="verifier's estimate", ylim=(0, 1.02), title="cheap answers, most confident first")
    axis.legend(loc="lower left", fontsize=8)
    _save(figure, path)


def draw_deferral(path: Path, seen: Evidence, played: Replay) -> dict[str, float]:
    """Quality by share answered by the last tier, for each ranking; returns the areas under the curves."""
    figure, (axis,) = _figure(1, 1, (6.5, 4.5))
    rankings = {
        "verifier": seen.p_cheap_ok,
        "router": seen.p_route_ok,
        "length": -seen.lengths,
        "oracle": seen.cheap_right - seen.frontier_right + 1e-3 * seen.cheap_right,
    }
    areas: dict[str, float] = {}
    for name, score in rankings.items():
        share, quality = deferral_curve(score, seen)
        areas[name] = float(np.trapezoid(quality, share))
        axis.plot(share, quality, label=f"{name} ({areas[name]:.3f})")
    ends = [seen.cheap_right.mean(), seen.frontier_right.mean()]
    areas["random"] = float(np.mean(ends))
    axis.plot([0, 1], ends, color="0.6", ls=":", label=f"random ({areas['random']:.3f})")
    axis.plot(1 - played.accepted.mean(), played.right.mean(), "k*", ms=12, label="operating point")
    axis.set(xlabel="share answered by the last tier", ylabel="share right")
    axis.legend(loc="lower right", fontsize=8)
    _save(figure, path)
    return areas


def deferral_curve(score: FloatArray, seen: Evidence) -> tuple[FloatArray, FloatArray]:
    """(share sent to the last tier, share right), sending the lowest scores first; tied scores move together."""
    values, inverse = np.unique(score, return_inverse=True)
    gain = np.bincount(inverse, weights=seen.frontier_right - seen.cheap_right, minlength=len(values))
    count = np.bincount(inverse, minlength=len(values))
    share = np.concatenate([[0.0], np.cumsum(count)]) / len(score)
    quality = seen.cheap_right.mean() + np.concatenate([[0.0], np.cumsum(gain)]) / len(score)
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
