"""The row of a comparison: what is known of both versions' paths, and what the judge says of them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from router_models.pricing.prices import plain_decimal
from serve_graph.learning.comparing.compared_request import ComparedRequest
from serve_graph.learning.comparing.grading import PairGrades, is_same_answer
from serve_graph.learning.comparing.paths import PathTaken
from serve_graph.learning.judging.task_graders import graded_by
from serve_graph.records.comparisons import TIE, Comparison


def comparison_row(
    request: ComparedRequest,
    stable: PathTaken,
    candidate: PathTaken,
    grades: PairGrades,
    spent: Decimal,
    at: str,
    beside: Mapping[str, Any],
) -> Comparison:
    """What is written of a request that both versions decided; `beside` is kept with it."""
    same = is_same_answer(stable, candidate)
    known = stable.why_not is None and candidate.why_not is None
    stable_right, candidate_right = grades.means or (grades.stable_right, grades.candidate_right)
    calls = {"calls": {"stable": list(stable.calls), "candidate": list(candidate.calls)}} if known else {}
    return Comparison(
        request.rollout,
        request.decision,
        at,
        request.arm,
        request.weight,
        request.unit,
        request.probability,
        same and (stable.tier, stable.action) == (candidate.tier, candidate.action),
        same,
        stable.tier,
        candidate.tier,
        stable.action,
        candidate.action,
        stable.usd,
        candidate.usd,
        None if stable_right is None else float(stable_right),
        None if candidate_right is None else float(candidate_right),
        grades.stable_harm,
        grades.candidate_harm,
        request.slices(),
        grades.grader,
        grades.why_not,
        {
            "comparing_usd": plain_decimal(spent),
            "group": request.group,
            "came_at": request.came_at,
            **calls,
            **beside,
            **({} if grades.task is None else graded_by(grades.task)),
            **({"verdict": TIE} if grades.tie else {}),
        },
    )
