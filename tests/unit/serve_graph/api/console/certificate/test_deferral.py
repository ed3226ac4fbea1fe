"""The deferral curve is drawn from the report's numbers, with the operating point and what the certificate leaves."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router_models.reports.plots import DEFERRAL_FILE, deferral_curve
from serve_graph.api.console.certificate.deferral import HEIGHT, WIDTH, deferral_chart
from tests.unit.serve_graph.api.console.certificate.test_proof import CERTIFICATE, Consoles, served

CURVES: dict[str, Any] = {
    "tiers": ["cheap", "frontier"],
    "n": 400,
    "curves": [
        {"name": "verifier", "area": 0.815, "points": [[0, 0.7], [0.5, 0.85], [1, 0.8]]},
        {"name": "random", "area": 0.75, "points": [[0, 0.7], [1, 0.8]]},
    ],
    "point": {"share": 0.625, "right": 0.84, "low": 0.81, "high": 0.87},
}


def written(folder: Path, data: Any) -> Path:
    (folder / DEFERRAL_FILE).write_text(data if isinstance(data, str) else json.dumps(data))
    return folder


def test_lines_point_and_band_lie_where_their_numbers_are(tmp_path: Path) -> None:
    chart = deferral_chart(written(tmp_path, CURVES), CERTIFICATE)  # 4 of 300 wrong, of 800; 5 % promised
    assert chart is not None
    assert chart.point is not None
    assert (chart.bottom, chart.top) == (0.7, 0.9)
    assert chart.lines[0].line == f"0,{HEIGHT:g} {WIDTH / 2:g},{HEIGHT / 4:g} {WIDTH:g},{HEIGHT / 2:g}"
    assert chart.lines[0].values[:2] == (0.7, pytest.approx(0.73))
    assert chart.point.x == 0.625 * WIDTH
    assert chart.point.promised == pytest.approx(0.84 - 0.375 * (0.05 - 4 / 300))
    assert chart.point.best == pytest.approx(0.84 + 4 / 800)
    assert chart.point.best_y < chart.point.right_y < chart.point.promised_y
    assert "operating point: 62.5% by frontier, 84.0% right, certified between 82.6% and 84.5%" in chart.said


def test_without_a_certificate_or_with_several_tiers_there_is_no_band_or_no_point(tmp_path: Path) -> None:
    written(tmp_path, CURVES)
    for none in (None, replace(CERTIFICATE, accepted_n=0, errors=0)):
        chart = deferral_chart(tmp_path, none)
        assert chart is not None
        assert chart.point is not None
        assert chart.point.promised is None
    chart = deferral_chart(written(tmp_path, CURVES | {"point": None}), CERTIFICATE)
    assert chart is not None
    assert chart.point is None


@pytest.mark.parametrize(
    "data",
    [
        "no json",
        "[]",
        "{}",
        CURVES | {"curves": []},
        CURVES | {"curves": [{"name": "x", "area": 0.5, "points": [[0, 0.5]]}]},
        CURVES | {"curves": [{"name": "x", "area": 0.5, "points": [[0, 0.5], [1, 7]]}]},
        CURVES | {"point": {"share": "NaN", "right": 0.5, "low": 0, "high": 1}},
    ],
)
def test_a_file_that_holds_no_curve_is_no_chart(tmp_path: Path, data: Any) -> None:
    assert deferral_chart(written(tmp_path, data), CERTIFICATE) is None


async def test_the_page_draws_it_instead_of_the_picture_with_a_table_beside(console: Consoles, tmp_path: Path) -> None:
    (tmp_path / "deferral.png").write_bytes(b"png")
    made = await served(console, folder=lambda: tmp_path)
    assert "deferral.png" in await made.shown("/console/certificate")  # a version of an earlier release
    hostile = {**CURVES["curves"][0], "name": "<script>alert(1)</script>"}
    written(tmp_path, CURVES | {"curves": [hostile, CURVES["curves"][1]]})
    page = await made.shown("/console/certificate")
    assert "deferral.png" not in page
    assert "<script>alert" not in page
    assert len(re.findall("<polyline", page)) == 2
    for said in ("82.6 % to 84.5 %", "operating point: 62.5 %", "0.815", 'aria-label="Deferral curve, as a table"'):
        assert said in page, said
    assert "style=" not in page


def test_the_curve_of_a_ranking_begins_with_the_first_tier_and_ends_with_the_last() -> None:
    rng = np.random.default_rng(0)
    first, last = (rng.random(50) < 0.5).astype(float), (rng.random(50) < 0.8).astype(float)
    share, right = deferral_curve(rng.random(50), first, last)
    assert (share[0], share[-1]) == (0.0, 1.0)
    assert (right[0], right[-1]) == (pytest.approx(first.mean()), pytest.approx(last.mean()))
