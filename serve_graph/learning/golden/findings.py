"""What runs of golden tasks found, one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from router_models.monitoring.golden_answers import FallenGrades
from serve_graph.learning.golden.run_table import RecordedRun

CLOSES_REFERENCE = "`serve-graph alarms close` closes it, and begins another reference"


def figure_reason(
    run: RecordedRun, earlier: Sequence[RecordedRun], change: Mapping[str, Any], false_share: float
) -> str:
    """One line: which figure of a tier's answers changed, from what to what, and how surely."""
    before, now = change["before"], change["now"]
    what = {
        "answers": f"answers of {run.tier} to golden tasks differ from earlier ones in {now:.0%} of pairs, "
        f"{before:.0%} among themselves",
        "length": f"answers of {run.tier} to golden tasks have {now:.4g} tokens on average, {before:.4g} before",
        "prompt_tokens": f"golden tasks are {now:.4g} tokens on average to {run.tier}, {before:.4g} before",
    }[change["figure"]]
    named = _named(run, earlier)
    sure = (
        f"{change['n']} tasks, adjusted p {change['adjusted']:.2g}; a false one ever with probability {false_share:g}"
    )
    return f"{what}{named} ({sure} at most); {CLOSES_REFERENCE}"


def model_reason(run: RecordedRun, earlier: Sequence[RecordedRun]) -> str | None:
    """One line where an API names other models than it ever did; None where it does not, or names none."""
    now, before = run.models(), set[str]().union(*(one.models() for one in earlier))
    if not now or not before or now & before:
        return None
    return f"{run.tier} names its model {_list(now)}, {_list(before)} before; {CLOSES_REFERENCE}"


def grades_reason(run: RecordedRun, grades: FallenGrades, alpha: float) -> str:
    """One line: how many answers are wrong, how many were, and how surely that is more."""
    counted = f"{grades.wrong} of {grades.graded} graded answers wrong in the newest run, {grades.expected:.1f} before"
    limit = run.detail["grades_limit"]
    sure = f"e-value {grades.e_value:.3g}, limit {limit:.3g}: a false one ever with probability {alpha:g} at most"
    ends = "a version certified on answers made since, or `serve-graph alarms lift`, ends it"
    return f"revoked by golden tasks: {run.tier} answers worse than in its reference, {counted} ({sure}); {ends}"


def _named(run: RecordedRun, earlier: Sequence[RecordedRun]) -> str:
    """What else the API says, where it is new."""
    before = set[str]().union(*(one.fingerprints() for one in earlier))
    new = run.fingerprints() - before
    return f", with fingerprint {_list(new)}" if new and before else ""


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3])
