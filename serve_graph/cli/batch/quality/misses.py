"""How many answers are wrong, of the rows that say how theirs is graded: by tier, with intervals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from router_models.errors import by_number
from serve_graph.cli.batch.dataset import Row
from serve_graph.cli.batch.forecast import share_of
from serve_graph.errors import ServeGraphError


def check_grader(row: Row) -> None:
    """Raise ServeGraphError where a row's grader does not exist or cannot read its reference; before it is paid."""
    name, reference = row.get("grader"), row.get("reference")
    if name and isinstance(reference, dict):
        _is_right(str(name), reference, "")


def _is_right(name: str, reference: dict[str, Any], answer: str) -> bool:
    from router_models.data.starter.graders import GRADERS

    if name not in GRADERS or name == "program":
        known = ", ".join(sorted(set(GRADERS) - {"program"}))
        raise ServeGraphError(f"a row's grader is {name!r}; there are: {known}")
    try:
        return GRADERS[name](reference, answer)
    except (KeyError, TypeError, AttributeError) as error:
        raise ServeGraphError(f"the grader {name!r} cannot read a row's reference: {error}") from None


def measured_misses(results: Iterable[Row], rows: int) -> dict[str, Any] | None:
    """Grade answered rows that have a `grader` and a `reference`, as tasks do; None where there are none.

    `expected`: how many of all `rows` are wrong, if these are a random sample of them. Raises ServeGraphError for a
    grader that does not exist or cannot read its reference.
    """
    wrong: dict[str, int] = {}
    graded: dict[str, int] = {}
    for row in results:
        name, reference, answer = row.get("grader"), row.get("reference"), row.get("answer")
        if not name or not isinstance(reference, dict) or answer is None:
            continue
        right = _is_right(str(name), reference, answer)
        tier = str(row.get("serve_graph_tier"))
        graded[tier] = graded.get(tier, 0) + 1
        wrong[tier] = wrong.get(tier, 0) + (not right)
    if not graded:
        return None
    all_of_it = share_of(sum(wrong.values()), sum(graded.values()))
    expected = {name: all_of_it[name] * rows for name in ("share", "low", "high")}
    tiers = {tier: share_of(wrong[tier], count) for tier, count in graded.items()}
    return {"graded": sum(graded.values()), "wrong": all_of_it, "tiers": tiers, "expected": expected}


def misses_line(found: dict[str, Any]) -> str:
    """What was measured, as a line of text."""
    wrong, expected = found["wrong"], found["expected"]
    share, low, high = (100 * wrong[name] for name in ("share", "low", "high"))
    answers = by_number(found["graded"], "answer")
    said = f"of {found['graded']:,} graded {answers} {share:.1f} % are wrong ({low:.1f} to {high:.1f}, 95 %)"
    return f"{said}: {expected['low']:,.0f} to {expected['high']:,.0f} of all rows"
