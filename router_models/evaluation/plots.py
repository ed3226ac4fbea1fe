"""Draw deferral curves and quality over cost. matplotlib is imported when a picture is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from router_models.evaluation.certified_point import PromiseTerms
from router_models.evaluation.held_out import HeldOutScores
from router_models.metrics import cost_quality, routing_curve
from router_models.types import FloatArray

STYLES = {"random": ("0.6", "--"), "length": ("0.3", ":"), "oracle": ("0.75", "-.")}


def draw_evaluation_deferral(
    path: Path, held: Sequence[HeldOutScores], weak: FloatArray, strong: FloatArray, title: str
) -> None:
    """Draw quality by share of strong calls, one line per method, beside random, length and oracle."""
    figure, axis = _figure()
    for one in held:
        curve = routing_curve(one.scores, weak, strong)
        axis.plot(100 * curve.strong_share, 100 * curve.quality, label=one.method, **_style(one.method))
    axis.axhline(100 * float(strong.mean()), color="0.85", lw=1, zorder=0)
    axis.axhline(100 * float(weak.mean()), color="0.85", lw=1, zorder=0)
    axis.set(xlabel="answered by the strong tier, %", ylabel="right, %", title=title, xlim=(0, 100))
    _finish(figure, axis, path)


def draw_cost(
    path: Path, held: Sequence[HeldOutScores], weak: FloatArray, strong: FloatArray, terms: PromiseTerms, title: str
) -> None:
    """Draw quality by mean cost per prompt, one line per method."""
    figure, axis = _figure()
    scale = 1000.0 if terms.usd else 1.0
    for one in held:
        cost, quality = cost_quality(one.scores, weak, strong, terms.weak_cost, terms.strong_cost)
        axis.plot(scale * cost, 100 * quality, label=one.method, **_style(one.method))
    label = "dollars per 1,000 prompts" if terms.usd else "strong calls per prompt"
    axis.set(xlabel=label, ylabel="right, %", title=title)
    _finish(figure, axis, path)


def _style(method: str) -> dict[str, Any]:
    color, dash = STYLES.get(method, (None, "-"))
    return {"ls": dash, "lw": 1.6 if method not in STYLES else 1.2, **({} if color is None else {"color": color})}


def _figure() -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _finish(figure: Any, axis: Any, path: Path) -> None:
    axis.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110)
