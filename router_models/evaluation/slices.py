"""Compute a router's figures slice by slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from router_models.metrics import apgr, routing_curve
from router_models.types import FloatArray


@dataclass(frozen=True, slots=True)
class SliceRow:
    """Hold one slice's figures under one method.

    Parameters
    ----------
    column, value : str
        The slice.
    n : int
        Its prompts.
    weak, strong : float
        Both tiers' mean grades.
    strong_share : float
        The share sent to strong, at the threshold that sends half of all prompts there.
    pgr : float, optional
        The gap recovered at that threshold; None where the slice has no gap.
    apgr : float, optional
        The average over all thresholds.
    """

    column: str
    value: str
    n: int
    weak: float
    strong: float
    strong_share: float
    pgr: float | None
    apgr: float | None


def slice_rows(
    columns: Mapping[str, Sequence[str]], scores: FloatArray, weak: FloatArray, strong: FloatArray, least: int = 20
) -> tuple[SliceRow, ...]:
    """Compute one method's figures in every slice of at least `least` prompts, at one threshold: the median score."""
    middle = float(np.median(scores))
    up = scores < middle if (scores < middle).any() else np.zeros(len(scores), dtype=np.bool_)
    found = []
    for column, named in columns.items():
        values = np.array(named)
        for value in sorted(set(values.tolist())):
            rows = values == value
            if rows.sum() < least:
                continue
            low, high = float(weak[rows].mean()), float(strong[rows].mean())
            quality = float(np.where(up[rows], strong[rows], weak[rows]).mean())
            gap = high > low
            found.append(
                SliceRow(
                    column,
                    value,
                    int(rows.sum()),
                    low,
                    high,
                    float(up[rows].mean()),
                    (quality - low) / (high - low) if gap else None,
                    apgr(routing_curve(scores[rows], weak[rows], strong[rows])) if gap else None,
                )
            )
    return tuple(found)
