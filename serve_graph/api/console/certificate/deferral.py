"""The deferral curve of a version's report as the page draws it, with what the certificate leaves of its point."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router_models.reports.plots import DEFERRAL_FILE
from router_models.risk_control.certificates.certificate import Certificate
from serve_graph.api.console.charts import COLOURS

logger = logging.getLogger(__name__)
WIDTH, HEIGHT = 720.0, 240.0
MOST_CURVE_BYTES = 1 << 20
STEPS = 10
"""Rows of the table, from none to all answered by the last tier."""


@dataclass(frozen=True, slots=True)
class DeferralLine:
    """One way of ranking requests: its colour and dashes, the area under it, its line, and its value at each row."""

    name: str
    kind: int
    area: float
    line: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class DeferralPoint:
    """The operating point: measured, with its 90 % interval, and from where to where the certificate leaves it.

    `promised`, `best`: the share right if the certified risk were all that is promised, and if it were none; None
    where nothing is certified of it. `x` and the `…_y` are places in the picture.
    """

    share: float
    right: float
    low: float
    high: float
    promised: float | None
    best: float | None
    x: float
    right_y: float
    promised_y: float
    best_y: float


@dataclass(frozen=True, slots=True)
class DeferralChart:
    """The picture and its numbers; `first` and `last` are the tiers between which is deferred, `n` prompts each."""

    first: str
    last: str
    n: int
    bottom: float
    top: float
    lines: tuple[DeferralLine, ...]
    shares: tuple[float, ...]
    point: DeferralPoint | None

    @property
    def said(self) -> str:
        """The picture in a sentence."""
        ways = ", ".join(f"{line.name} {line.area:.3f}" for line in self.lines)
        said = f"Share right by the share answered by {self.last} instead of {self.first}; areas: {ways}"
        if self.point is None:
            return said
        at = f"operating point: {self.point.share:.1%} by {self.last}, {self.point.right:.1%} right"
        if self.point.promised is None:
            return f"{said}; {at}"
        return f"{said}; {at}, certified between {self.point.promised:.1%} and {self.point.best:.1%}"


def deferral_chart(folder: Path | None, certificate: Certificate | None) -> DeferralChart | None:
    """The chart of a version's folder; None where its report has no such numbers, as those of earlier releases."""
    path = None if folder is None else folder / DEFERRAL_FILE
    if path is None or not path.is_file() or path.stat().st_size > MOST_CURVE_BYTES:
        return None
    try:
        return _chart(json.loads(path.read_text(encoding="utf-8")), certificate)
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s holds no deferral curve: %s", path, error)
        return None


def _chart(data: Mapping[str, Any], certificate: Certificate | None) -> DeferralChart:
    curves = [(str(one["name"]), _share(one["area"]), _points(one["points"])) for one in data["curves"]]
    if not curves:
        raise ValueError("there is no curve")
    every = [right for _, _, points in curves for _, right in points]
    found = data.get("point")
    given = None if found is None else {name: _share(found[name]) for name in ("share", "right", "low", "high")}
    band = None if given is None else _band(given["right"], certificate)
    every += [] if given is None else [given["low"], given["high"]]
    every += [] if band is None else list(band)
    bottom, top = math.floor(min(every) * 20) / 20, math.ceil(max(every) * 20) / 20
    if top <= bottom:
        top = bottom + 0.05

    def y(right: float) -> float:
        return round(HEIGHT * (top - right) / (top - bottom), 2)

    shares = tuple(step / STEPS for step in range(STEPS + 1))
    lines = tuple(
        DeferralLine(
            name,
            min(at, COLOURS - 1),
            area,
            " ".join(f"{round(WIDTH * share, 2):g},{y(right):g}" for share, right in points),
            tuple(_at(points, share) for share in shares),
        )
        for at, (name, area, points) in enumerate(curves)
    )
    point = None
    if given is not None:
        low, high = band or (None, None)
        places = [y(given["right"] if value is None else value) for value in (given["right"], low, high)]
        x = round(WIDTH * given["share"], 2)
        point = DeferralPoint(given["share"], given["right"], given["low"], given["high"], low, high, x, *places)
    return DeferralChart(
        str(data["tiers"][0]), str(data["tiers"][-1]), int(data["n"]), bottom, top, lines, shares, point
    )


def _band(right: float, certificate: Certificate | None) -> tuple[float, float] | None:
    """What the certificate leaves of the measured share right, its risk being of the prompts that it accepts."""
    if certificate is None or not certificate.accepted_n or not certificate.n:
        return None
    part = certificate.accepted_n / certificate.n
    risk = certificate.errors / certificate.accepted_n
    least = right - part * (certificate.promised_risk - risk)
    return max(0.0, least), min(1.0, right + part * risk)


def _points(given: Sequence[Any]) -> list[tuple[float, float]]:
    points = [(_share(share), _share(right)) for share, right in given]
    if len(points) < 2 or points != sorted(points, key=lambda point: point[0]):
        raise ValueError("a curve's points must be in the order of their shares, two at least")
    return points


def _share(value: Any) -> float:
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError(f"{value!r:.40} is no share")
    return number


def _at(points: Sequence[tuple[float, float]], share: float) -> float:
    """The curve at a share, between its points on a line."""
    before = max((point for point in points if point[0] <= share), default=points[0])
    after = min((point for point in points if point[0] >= share), default=points[-1])
    if after[0] == before[0]:
        return before[1]
    return before[1] + (after[1] - before[1]) * (share - before[0]) / (after[0] - before[0])
