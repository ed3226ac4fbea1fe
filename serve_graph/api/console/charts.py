"""Numbers as people read them, and the geometry of the pages' pictures: templates draw it as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

COLOURS = 6
"""How many colours there are; with more series, the last one stands for several."""


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share in per cent; '–' where there is none."""
    return "–" if share is None or not math.isfinite(share) else f"{100 * share:.{digits}f} %"


def money(usd: Decimal | float | None) -> str:
    """Return dollars with as many digits as say something; '–' where there are none."""
    if usd is None:
        return "–"
    amount = abs(Decimal(usd))
    sign = "−" if usd < 0 else ""
    if amount == 0:
        return "$0"
    if amount >= 100:
        return f"{sign}${amount:,.0f}"
    if amount >= 1:
        return f"{sign}${amount:,.2f}"
    if amount < Decimal("0.000001"):
        return f"{sign}under $0.000001"
    return f"{sign}${amount:.{min(6, 2 - amount.adjusted())}f}"


def shown_number(value: float | None) -> str:
    """Return a count with its thousands apart, another number with three digits; '–' where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"


@dataclass(frozen=True, slots=True)
class BarPart:
    """One series' part of a bar: its colour (0 to COLOURS - 1), and where it is, in the picture's units."""

    kind: int
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class StackedBar:
    """A bar: what it is of, its total, and its parts from the bottom up."""

    label: str
    total: float
    x: float
    width: float
    parts: tuple[BarPart, ...]


@dataclass(frozen=True, slots=True)
class StackedChart:
    """Bars over time with one colour a series, and the numbers themselves.

    `names` and `kinds` are the series and their colours; `rows` the numbers, for the table beside the picture.
    """

    width: float
    height: float
    top: float
    names: tuple[str, ...]
    kinds: tuple[int, ...]
    bars: tuple[StackedBar, ...]
    rows: tuple[tuple[str, tuple[float, ...]], ...]


def stacked_chart(
    rows: Sequence[tuple[str, Mapping[str, float]]], names: Sequence[str], width: float = 720, height: float = 160
) -> StackedChart:
    """Return the picture of series over time: `rows` are moments with each series' value, in order."""
    totals = [sum(values.values()) for _, values in rows]
    top = max([*totals, 1.0])
    step = width / max(len(rows), 1)
    kinds = tuple(min(at, COLOURS - 1) for at in range(len(names)))
    bars = []
    for at, (label, values) in enumerate(rows):
        parts, reached = [], 0.0
        for name, kind in zip(names, kinds, strict=True):
            if size := height * values.get(name, 0.0) / top:
                reached += size
                parts.append(BarPart(kind, round(height - reached, 2), round(size, 2)))
        bars.append(StackedBar(label, totals[at], round(at * step, 2), round(step * 0.86, 2), tuple(parts)))
    shown = tuple((label, tuple(values.get(name, 0.0) for name in names)) for label, values in rows)
    return StackedChart(width, height, top, tuple(names), kinds, tuple(bars), shown)
